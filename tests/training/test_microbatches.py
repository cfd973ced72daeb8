"""Gradients of microbatches, and of passes in turn: against a loop, and against the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from ensdistill import data, families, members, nets, objectives, perturb, students
from ensdistill.method import Method
from ensdistill.training import microbatches
from ensdistill.training import step as train

PARTS, BATCH = 2, 8


def method(kind, objective, moved='none', norm='batch', parts=PARTS, dropout=0.0, **settings):
  own = {'dropout': dropout} | ({'norm': norm} if norm else {})
  name = 'mlp' if norm is None else 'resnet'
  student = students.make(kind, tiny.backbone(name, **own), 3, members=3)
  return Method(
    student,
    families.categorical,
    objectives.make(objective),
    optax.sgd(0.1),
    20,
    perturb.Space(),
    perturb.make(moved),
    **{
      'label_weight': 1.0 if objective == 'none' else 0.3,
      'labels_on_clean': objective != 'none',
      'microbatches': parts,
      **settings,
    },
  )


def problem(m, seed=0):
  """A state, a batch with a missing label, and the members of a teacher."""
  training = tiny.dataset().train
  random = np.random.default_rng(seed)
  keys = train.network_keys(jax.random.key(seed), range(1))
  state = members.take(train.start(*keys, m, jnp.zeros((1, 8, 8, 1))), 0)
  batch = {'x': jnp.asarray(training.x[:BATCH]), 'y': jnp.asarray(training.y[:BATCH]).at[2].set(-1)}
  weights = jnp.asarray(random.normal(size=(3, 64, 3)), jnp.float32)

  def outputs(x, index=None):
    chosen = weights if index is None else weights[index]
    return jnp.einsum('bd,mdo->bmo', x.reshape(len(x), -1), chosen)

  return state, batch, members.Members(3, outputs)


def stepped(m, state, batch, teacher):
  return jax.jit(lambda s, b: train.train_step(s, b, teacher, m))(state, batch)


POINTS = [
  ('single', 'none', 'none', 'batch', {}),
  ('single', 'mean', 'tdiv', 'batch', {}),
  ('batch_ensemble', 'members', 'tdiv_sdiv', 'batch', {'labels_on_clean': False}),
  ('batch_ensemble', 'members', 'conf_ods', 'batch', {}),
  ('multi_head', 'members', 'ods', 'group', {}),
  ('single', 'dirichlet', 'gaussian', 'layer', {}),
  ('single', 'prior_network', 'none', None, {'dropout': 0.5}),
  ('batch_ensemble', 'members', 'tdiv', None, {'dropout': 0.5}),
]


QUICK = POINTS[1:4]  # a point compiles for seconds
SLOW = [pytest.param(*point, marks=pytest.mark.slow) for point in POINTS if point not in QUICK]


@pytest.mark.parametrize('kind,objective,moved,norm,settings', QUICK + SLOW)
def test_microbatches_equal_a_loop_over_them(kind, objective, moved, norm, settings):
  m = method(kind, objective, moved, norm, **settings)
  state, batch, teacher = problem(m)
  after, logs = stepped(m, state, batch, teacher)

  # The perturbation is that of the whole batch; the rest is a loop.
  x, clean = batch['x'], batch['x']
  key_perturb, key_dropout = jax.random.split(jax.random.fold_in(state.key, state.step))
  if m.perturbation:
    frozen = m.student.freeze(state.variables)
    x = m.perturbation.apply(key_perturb, x, teacher, frozen, m.family, m.space)
  stats, grads, terms = state.batch_stats, [], []

  @jax.jit
  def part(key, stats, x, clean, y):
    def loss_of(params):
      def forward(x, stats, key=key):
        variables, rngs = {'params': params, 'batch_stats': stats}, {'dropout': key}
        outputs, new = m.student.module.apply(
          variables, x, True, mutable=['batch_stats'], rngs=rngs
        )
        return outputs, new.get('batch_stats', {})

      own, total, logged = stats, 0.0, {}
      if m.label_weight and m.perturbation and m.labels_on_clean:
        labelled, own = forward(clean, own, jax.random.fold_in(key, 1))
      outputs, own = forward(x, own)
      if not (m.label_weight and m.perturbation and m.labels_on_clean):
        labelled = outputs
      if m.objective.loss:
        values = m.objective.schedule(0.0)
        loss_B, _ = m.objective.loss(m.family, outputs, teacher.outputs(x), **values)
        total += (1 - m.label_weight) * loss_B.mean()
        logged[m.objective.name] = loss_B.mean()
      logged['labels'] = m.objective.label_loss(m.family, labelled, y).mean()
      return total + m.label_weight * logged['labels'], (own, logged)

    return jax.value_and_grad(loss_of, has_aux=True)(state.params)

  for i, key in enumerate(jax.random.split(key_dropout, PARTS)):
    own = [array[i::PARTS] for array in (x, clean, batch['y'])]
    (loss, (stats, logged)), gradient = part(key, stats, *own)
    grads.append(gradient)
    terms.append(logged | {'loss': loss})
  mean = jax.tree.map(lambda *leaves: sum(leaves) / PARTS, *grads)
  want = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, mean)
  assert tiny.largest_difference(after.params, want) < 1e-6
  assert tiny.largest_difference(after.batch_stats, stats) < 1e-6 if stats else norm != 'batch'
  for name in terms[0]:
    np.testing.assert_allclose(logs[name], np.mean([t[name] for t in terms]), rtol=1e-5)
  np.testing.assert_allclose(logs['grad_norm'], optax.tree.norm(mean), rtol=1e-5)


@pytest.mark.parametrize(
  'kind,objective,moved,norm',
  [
    ('batch_ensemble', 'members', 'tdiv_sdiv', 'layer'),
    ('multi_head', 'members', 'conf_ods', 'group'),
    ('single', 'mean', 'ods', None),
    ('single', 'none', 'none', 'group'),
  ],
)
def test_without_batch_norm_microbatches_equal_the_whole_batch(kind, objective, moved, norm):
  parts, whole = (method(kind, objective, moved, norm, parts=n) for n in (PARTS, 1))
  state, batch, teacher = problem(parts)
  if objective == 'mean':
    mix = data.augment.mixing(mixup=0.4)
    parts, whole = (tiny.replace(m, mix=mix, labels_on_clean=False) for m in (parts, whole))
  a, logs_a = stepped(parts, state, batch, teacher)
  b, logs_b = stepped(whole, state, batch, teacher)
  assert tiny.largest_difference(a.variables, b.variables) < 1e-6
  assert logs_a.keys() == logs_b.keys()
  for name, value in logs_b.items():
    np.testing.assert_allclose(logs_a[name], value, rtol=1e-5, atol=1e-6)
  assert tiny.largest_difference(a.params, state.params) > 1e-3


def test_parts_are_interleaved():
  np.testing.assert_array_equal(microbatches.split(jnp.arange(6), 2), [[0, 2, 4], [1, 3, 5]])
  with pytest.raises(ValueError, match='4 microbatches do not divide a batch of 6'):
    microbatches.split(jnp.arange(6), 4)


def test_members_in_parts_have_the_same_outputs_and_gradients():
  _, batch, network = problem(method('single', 'none'))
  x, index = batch['x'], jnp.array([2])
  parts = microbatches.in_parts(network, 4)

  def sum_of_squares(m):
    return lambda x: (m.outputs(x, index) ** 2).sum()

  np.testing.assert_allclose(parts.outputs(x), network.outputs(x), rtol=1e-6)
  for whole, part in zip(*(jax.value_and_grad(sum_of_squares(m))(x) for m in (network, parts))):
    np.testing.assert_allclose(part, whole, rtol=1e-5)


def test_passes_one_after_the_other_equal_both_together():
  """The form for TPUs takes the gradient of the clean pass before the other pass begins."""
  plain = method('batch_ensemble', 'members', 'conf_ods', parts=1)
  module = nets.with_form(plain.student.module, 'tpu')
  in_turn = tiny.replace(plain, student=tiny.replace(plain.student, module=module))
  state, batch, teacher = problem(plain)
  (a, logs_a), (b, logs_b) = (stepped(m, state, batch, teacher) for m in (plain, in_turn))
  assert tiny.largest_difference(a.variables, b.variables) < 1e-6
  assert logs_a.keys() == logs_b.keys()
  for name, value in logs_a.items():
    np.testing.assert_allclose(logs_b[name], value, rtol=1e-4, atol=1e-6)
