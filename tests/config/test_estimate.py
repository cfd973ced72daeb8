"""The estimate of a run's memory: against arrays that live, and what cannot fit is refused."""

import jax
import jax.numpy as jnp
import pytest
import tiny

from ensdistill import distillation, memory, teacher
from ensdistill.config import estimate
from ensdistill.logs import writers


class Watching(writers.Silent):
  """A writer that notes the largest sum of live arrays whenever a stage logs."""

  def __init__(self, before: int):
    self.before, self.live = before, {}

  def scalars(self, step, values, **labels):
    stage = labels.get('stage') or 'all'
    live = estimate.size_of([a for a in jax.live_arrays() if not _is_key(a)]) - self.before
    self.live[stage] = max(self.live.get(stage, 0), live)


def _is_key(array):
  return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize(
  'changes',
  [
    {'network__hidden': (256, 256)},
    {'network__hidden': (64,), 'student__optimizer__name': 'adam', 'seeds': 2},
    {'student__kind': 'batch_ensemble', 'objective__name': 'members', 'teacher__members': 2},
    {'student__targets': 'stored', 'teacher__keep': 'last', 'student__keep': 'last'},
  ],
)
def test_the_estimate_agrees_with_the_arrays_that_live(tmp_path, changes):
  dataset = tiny.dataset(size=480)
  config = tiny.config(**changes)
  plan = tiny.checked_plan(config, dataset, tmp_path / 'run')
  found = {stage.name: stage for stage in estimate.stages(plan)}
  writer = Watching(estimate.size_of([a for a in jax.live_arrays() if not _is_key(a)]))
  ensemble = teacher.obtain(plan, writer)
  distillation.distil(plan, ensemble, writer)
  for name in ('teacher', 'student'):
    parts = found[name].device
    expected = sum(size for part, size in parts.items() if part not in ('gradients', 'activations'))
    assert 0.7 < writer.live[name] / expected < 1.4, (name, writer.live[name], parts)


def test_activations_grow_with_the_batch_and_the_parameters_do_not():
  plan = tiny.plan(tiny.config(), tiny.dataset())
  small, large = (estimate.of_network(plan.teacher, (8, 8, 1), batch) for batch in (8, 16))
  # weights and biases of 64 -> 8 -> 3, and momentum
  assert small.parameters == large.parameters == 4 * (64 * 8 + 8 + 8 * 3 + 3)
  assert small.state >= 2 * small.parameters
  assert large.activations == pytest.approx(2 * small.activations, rel=0.1)


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      {'network__hidden': (1_000_000, 100_000)},
      r'teacher needs at least \S+ TB of memory on the host \(networks .*: lower teacher.together',
    ),
    (
      {'student__network__name': 'mlp', 'student__network__hidden': (1_000_000, 100_000)},
      'student needs at least .* are free: lower seeds, student.members',
    ),
  ],
)
def test_what_cannot_fit_is_refused_before_anything_compiles(changes, message):
  plan = tiny.plan(tiny.config(**changes), tiny.dataset())
  with pytest.raises(ValueError, match=message) as error:
    estimate.check(plan)
  assert '\n' not in str(error.value)


def test_the_largest_part_decides_what_to_lower(monkeypatch):
  monkeypatch.setattr(memory, 'available', lambda: 100_000)
  for changes, remedy in (
    ({'network__hidden': (3000,)}, 'lower teacher.together'),
    ({'teacher__batch_size': 4096, 'network__hidden': (64,) * 9}, 'lower teacher.batch_size'),
    ({}, "lower data.limit, or set data.stream='on'"),
  ):
    plan = tiny.plan(tiny.config(**changes), tiny.dataset(size=5000))
    with pytest.raises(ValueError, match=remedy):
      estimate.check(plan)
  monkeypatch.setattr(memory, 'available', lambda: None)
  estimate.check(plan)  # a system that hides its memory


def test_a_usual_run_is_not_refused():
  plan = tiny.plan(tiny.config(), tiny.dataset())
  estimate.check(plan)
  assert [stage.name for stage in estimate.stages(plan)] == ['teacher', 'student', 'evaluation']


@pytest.mark.parametrize(
  ('limit', 'devices', 'setting', 'shares'),
  [
    (400, 2, None, False),  # a quarter
    (396, 2, None, True),
    (396, 1, None, False),
    (None, 2, None, False),  # a CPU
    (396, 2, False, False),
    (None, 2, True, True),
  ],
)
def test_a_teacher_above_a_quarter_of_a_device_is_shared(
  monkeypatch, limit, devices, setting, shares
):
  monkeypatch.setattr(memory, 'limit_of_device', lambda: limit)
  plan = tiny.plan(tiny.config(teacher__sharded=setting), tiny.dataset())
  assert estimate.shares_teacher(plan, devices, 100) == shares


def test_microbatches_lower_the_activations():
  whole, parts = (
    estimate.stages(tiny.plan(tiny.config(**changes), tiny.dataset()))
    for changes in ({}, {'teacher__microbatches': 4, 'student__microbatches': 4})
  )
  for before, after in zip(whole[:2], parts[:2]):
    ratio = after.device['activations'] / before.device['activations']
    assert ratio == pytest.approx(0.25, rel=0.1)


def test_a_student_of_labels_alone_holds_no_teacher(tmp_path, monkeypatch):
  labels = {'objective__name': 'none', 'objective__label_weight': 1.0}
  plan = tiny.checked_plan(tiny.config(**labels), tiny.dataset(), tmp_path / 'run')
  assert 'members' not in estimate.stages(plan)[1].device
  ensemble = teacher.obtain(plan, writers.Silent())
  monkeypatch.setattr(distillation, '_frozen', lambda *_: pytest.fail('the teacher is placed'))
  distillation.distil(plan, ensemble, writers.Silent())
