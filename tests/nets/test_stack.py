"""Rematerialised stages: the same numbers from fewer stored activations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import nets, students


def gradients(name, kind, **settings):
  """Return outputs, statistics and gradients of a training pass, and the bytes that it keeps."""
  x = jnp.asarray(np.random.default_rng(0).random((4, 8, 8, 1)), jnp.float32)
  student = students.make(kind, tiny.backbone(name, dropout=0.3, **settings), 3, members=2)
  variables = jax.tree.map(jnp.asarray, tiny.moved(student.module, x))

  def forward(params):
    return student.module.apply(
      {**variables, 'params': params},
      x,
      True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(1)},
    )

  @jax.jit
  def pulled(params):
    outputs, back, new = jax.vjp(forward, params, has_aux=True)
    return outputs, new, back(jnp.cos(outputs))[0]

  _, kept, _ = jax.eval_shape(lambda p: jax.vjp(forward, p, has_aux=True), variables['params'])
  return pulled(variables['params']), sum(leaf.size for leaf in jax.tree.leaves(kept))


@pytest.mark.parametrize(
  'name,kind,settings',
  [
    ('mlp', 'single', {}),
    ('resnet', 'batch_ensemble', {'norm': 'batch', 'form': 'cpu'}),
    ('resnet', 'multi_head', {'norm': 'batch'}),
    ('wide_resnet', 'single', {'norm': 'group'}),
    ('vgg', 'single', {'norm': 'layer'}),
    ('imagenet_resnet', 'single', {}),
    ('vit', 'batch_ensemble', {}),
  ],
)
def test_rematerialised_stages_give_the_same_numbers(name, kind, settings):
  plain, kept = gradients(name, kind, **settings)
  again, kept_again = gradients(name, kind, remat=True, **settings)
  assert tiny.largest_difference(plain, again) < 1e-6
  assert kept_again < kept or name == 'mlp'  # a small one: its stages are its layers


def test_remat_is_a_setting_of_every_network():
  for name in nets.NETWORKS:
    assert tiny.backbone(name, remat=True).remat and not tiny.backbone(name).remat
