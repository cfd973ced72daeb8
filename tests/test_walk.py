"""All networks as all students: parameter counts, shapes, a step, members, the average."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import families, nets, students
from ensdistill.nets import layers

M, K = 2, 4
X = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32)
SMALL, LARGE = (32, 32, 3), (224, 224, 3)


def shapes(kind, name, shape, outputs, **settings):
  """Return the shapes of the variables of a whole network as a student."""
  backbone = nets.build(name, shape=shape, mean=(0.5,), std=(0.25,), **settings)
  module = students.make(kind, backbone, outputs, members=M).module
  return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))


def count(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


# Counts are from torchvision for ResNets for ImageNet and from papers for Wide ResNets. The small
# ResNet has norms on its projections. Keras' VGG-16 without its dense layers has 14,714,688
# parameters, of which 4,224 are biases; ours has the norm's scale and bias instead. In timm,
# ViT-Ti/16 and ViT-S/16 also have a class token, and a position for it and each of 196 patches.
VGG_DENSE = 512 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 10 + 10
PUBLISHED = [
  ('resnet', SMALL, 10, {'depth': 20}, 272_474),
  ('wide_resnet', SMALL, 10, {'depth': 28, 'width': 1}, 369_498),
  ('wide_resnet', SMALL, 100, {'depth': 28, 'width': 4}, 5_872_180),
  ('wide_resnet', SMALL, 100, {'depth': 28, 'width': 10}, 36_536_884),
  ('vgg', SMALL, 10, {'depth': 16}, 14_714_688 + 4_224 + VGG_DENSE),
  ('imagenet_resnet', LARGE, 1000, {'depth': 18}, 11_689_512),
  ('imagenet_resnet', LARGE, 1000, {'depth': 34}, 21_797_672),
  ('imagenet_resnet', LARGE, 1000, {'depth': 50}, 25_557_032),
  ('vit', LARGE, 1000, {'patch': 16, 'depth': 12}, 5_717_416 - 198 * 192),
  (
    'vit', LARGE, 1000, {'patch': 16, 'depth': 12, 'channels': 384, 'heads': 6},
    22_050_664 - 198 * 384,
  ),
]  # fmt: skip


@pytest.mark.parametrize('name, shape, outputs, settings, published', PUBLISHED)
def test_parameter_counts(name, shape, outputs, settings, published):
  assert count(shapes('single', name, shape, outputs, **settings)['params']) == published


def small(name, kind='single', **settings):
  return shapes(kind, name, SMALL, 10, **tiny.NETWORKS[name][0], **settings)


@pytest.mark.parametrize('name', nets.NETWORKS)
def test_parameters_of_students_follow_from_the_network(name):
  plain = small(name)['params']
  wide = [leaf.shape for path, leaf in tiny.leaves(plain) if path[-1] == 'kernel']
  factors = sum(sum(shape[-2:]) for shape in wide)  # one of each input and each output channel
  assert count(small(name, 'batch_ensemble')['params']) == count(plain) + M * factors
  several = small(name, 'multi_head')['params']
  assert len(several) == len(plain) - 1  # the last stage and the dense layer belong to the heads
  head = count(plain) - count({part: plain[part] for part in several if part in plain})
  assert count(several) == count(plain) + (M - 1) * head


@pytest.mark.parametrize('norm', ['group', 'layer'])
@pytest.mark.parametrize('kind', students.STUDENTS)
@pytest.mark.parametrize('name', [name for name in nets.NETWORKS if name != 'mlp'])
def test_norms_exchange_for_one_another(name, kind, norm):
  batch, other = small(name, kind, norm='batch'), small(name, kind, norm=norm)
  assert set(batch) == {'params', 'batch_stats'} and set(other) == {'params'}
  assert jax.tree.map(jnp.shape, other['params']) == jax.tree.map(jnp.shape, batch['params'])


# ---- every network as every student

WALK = [(name, kind, None) for name in nets.NETWORKS for kind in students.STUDENTS] + [
  ('resnet', 'batch_ensemble', 'group'),
  ('vgg', 'multi_head', 'layer'),
]


@pytest.mark.parametrize('name, kind, norm', WALK)
def test_every_network_as_every_student(name, kind, norm):
  backbone = tiny.backbone(name, **({'norm': norm} if norm else {}))
  student = students.make(kind, backbone, K, members=M)
  variables = tiny.moved(student.module, X)
  stats = variables.get('batch_stats', {})
  assert bool(stats) == (backbone.norm == 'batch' and name != 'mlp')
  batch = {'x': jnp.asarray(X), 'y': jnp.arange(4) % K}

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(params):
    outputs, new = student.module.apply(
      {'params': params, 'batch_stats': stats}, batch['x'], True, mutable=['batch_stats']
    )
    return families.categorical.label_loss(outputs, batch['y']).mean(), new

  # A small step along the gradient lowers the loss by the predicted amount.
  (before, new), grads = loss(variables['params'])
  for path, grad in tiny.leaves(grads):
    assert np.abs(grad).max() > 0, path
  slope = math.sqrt(sum(np.square(grad).sum() for grad in jax.tree.leaves(grads)))
  stepped = jax.tree.map(lambda p, g: p - 3e-3 / slope * g, variables['params'], grads)
  np.testing.assert_allclose(before - loss(stepped)[0][0], 3e-3 * slope, rtol=0.1)
  for (path, old), (_, after) in zip(tiny.leaves(stats), tiny.leaves(new.get('batch_stats', {}))):
    assert np.abs(after - old).max() > 0, path

  forward = jax.jit(lambda variables: student.freeze(variables).outputs(X))
  outputs = forward(variables)
  assert outputs.shape == (4, student.size, K) and outputs.dtype == jnp.float32
  if student.size > 1:
    assert np.abs(outputs[:, 0] - outputs[:, 1]).max() > 1e-3
  if student.plain:
    plain, averaged = student.views(variables)['student-averaged']
    middle = forward(jax.tree_util.tree_map_with_path(at_the_mean, variables))
    outputs = jax.jit(plain.module.apply)(averaged, X)
    np.testing.assert_allclose(outputs, middle[:, :1], atol=1e-4)


def at_the_mean(path, leaf):
  own = path[-1].key in layers.MEMBER_LEAVES
  return np.broadcast_to(leaf.mean(0), leaf.shape) if own else leaf


def test_layers_that_no_relu_follows_start_narrower():
  settings = {'patch': 2, 'depth': 1, 'channels': 64, 'heads': 4}
  net = nets.build('vit', shape=(8, 8, 1), mean=(0.5,), std=(0.25,), **settings)
  module = students.make('single', net, 64).module
  drawn = nets.initial.variables(module, jax.random.split(jax.random.key(0), 1), X[:1])
  kernels = {path[-2]: a[0] for path, a in tiny.leaves(drawn['params']) if path[-1] == 'kernel'}
  for name, kernel in kernels.items():
    gain = 2 if name in ('conv', 'grow') else 1
    fan_in = math.prod(kernel.shape[:-1])
    np.testing.assert_allclose(kernel.std(), math.sqrt(gain / fan_in), rtol=0.1)
  assert set(kernels) == {'conv', 'qkv', 'out', 'grow', 'shrink', 'head'}
