"""The teacher: stored member by member, found again, mended, and the same however it is trained."""

import json
import shutil

import jax
import numpy as np
import pytest
import tensor_files
import tiny

from ensdistill import data, distillation, members
from ensdistill import teacher as teacher_lib
from ensdistill.config import identity, member_identity
from ensdistill.logs import writers
from ensdistill.storage import checkpoint, sealed_arrays
from ensdistill.training import step as train

DATA = tiny.dataset()


class Lines(writers.Silent):
  """Record a run's messages and logged stages."""

  def __init__(self):
    self.lines, self.stages = [], []

  def line(self, text):
    self.lines.append(text)

  def scalars(self, step, values, *, stage):
    self.stages.append(stage)

  def said(self, *parts) -> bool:
    return any(all(part in line for part in parts) for line in self.lines)


def obtain(root, dataset=DATA, **changes):
  """Return the teacher and the recording writer."""
  writer = Lines()
  config = tiny.config(**{'checkpoint_seconds': 1e9, 'teacher__dir': str(root), **changes})
  return teacher_lib.obtain(tiny.plan(config, dataset, root / 'run'), writer), writer


@pytest.fixture(scope='module')
def four(tmp_path_factory):
  """Four members trained all at once."""
  return obtain(tmp_path_factory.mktemp('teachers'), teacher__members=4)[0]


@pytest.fixture
def copy(four, tmp_path):
  """A root of teachers where these four lie."""
  shutil.copytree(four.folder, tmp_path / four.folder.name)
  return tmp_path


def first(stacked, count):
  return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], stacked)


def files(folder) -> dict:
  return {path.name: path.read_bytes() for path in folder.glob('*.safetensors')}


def flip_bit(path, at=-5):
  content = bytearray(path.read_bytes())
  content[at] ^= 1
  path.write_bytes(content)


def test_members_are_found_by_runs_that_want_fewer_or_more(four, tmp_path):
  two, _ = obtain(tmp_path, teacher__members=2)
  names = [f'member_{m:03d}' for m in range(4)]
  assert sorted(files(two.folder)) == [f'{name}.safetensors' for name in names[:2]]
  before = files(two.folder)

  more, writer = obtain(tmp_path, teacher__members=4)
  assert writer.said('2 of 4 members found') and writer.said('training 2 members')
  assert set(writer.stages) == {'teacher-2-3'}
  assert more.folder == two.folder and sorted(files(more.folder)) == [
    f'{n}.safetensors' for n in names
  ]
  assert before.items() <= files(more.folder).items()
  assert tiny.largest_difference(first(more.variables, 2), two.variables) == 0
  assert tiny.largest_difference(more.variables, four.variables) < 1e-6

  fewer, writer = obtain(tmp_path, teacher__members=3)
  assert writer.said('3 of 3 members found') and not writer.said('training')
  assert fewer.size == 3
  assert tiny.largest_difference(fewer.variables, first(more.variables, 3)) == 0


def test_members_differ_and_have_learned(four):
  a, b = (members.take(four.variables['params'], m) for m in (0, 1))
  assert tiny.largest_difference(a, b) > 0.01
  states = train.start(
    *train.network_keys(jax.random.key(0), range(4)),
    four.method,
    np.zeros((1, 8, 8, 1), np.float32),
  )
  assert tiny.largest_difference(four.variables['params'], states.params) > 0.01


def test_damaged_members_are_named_and_trained_again(four, copy):
  folder = copy / four.folder.name
  flip_bit(folder / 'member_001.safetensors')
  description = folder / 'member_002.json'
  description.write_text(description.read_text()[:20])
  again, writer = obtain(copy)
  for name in ('member_001', 'member_002'):
    assert writer.said('warning', name, 'damaged', 'computed again')
  assert writer.said('1 of 3 members found') and writer.said('training 2 members')
  assert tiny.largest_difference(again.variables, first(four.variables, 3)) < 1e-6
  found, writer = obtain(copy)
  assert writer.said('3 of 3 members found') and not writer.said('warning')
  assert tiny.largest_difference(found.variables, again.variables) == 0


def test_members_in_groups_equal_all_at_once(four, tmp_path):
  grouped, writer = obtain(tmp_path, teacher__members=4, teacher__together=3)
  assert set(writer.stages) == {'teacher-0-2', 'teacher-3-3'}  # none takes back another's curves
  assert tiny.largest_difference(grouped.variables, four.variables) < 1e-6


class Killed(Exception):
  """Raised by a test to stop a run."""


def test_killed_while_members_are_stored_ends_bit_identical(four, tmp_path, monkeypatch):
  save = sealed_arrays.save

  def dies(folder, name, *rest):
    if name == 'member_002':
      raise Killed
    save(folder, name, *rest)

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(sealed_arrays, 'save', dies)
    obtain(tmp_path, teacher__members=4)
  assert len(list(tmp_path.glob('*/member_*.json'))) == 2
  resumed, writer = obtain(tmp_path, teacher__members=4)
  assert writer.said('teacher: already finished') and not writer.stages
  assert files(resumed.folder) == files(four.folder)
  assert not (resumed.folder / 'checkpoints').exists()


def test_what_another_run_stored_meanwhile_is_left_alone(tmp_path, monkeypatch):
  """A run of 4 dies; one of 2 stores two members; the first goes on and adds the other two."""
  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(Lines, 'scalars', lambda self, step, values, stage: (_ for _ in ()).throw(Killed))
    obtain(tmp_path, teacher__members=4, checkpoint_seconds=0.0)
  two, _ = obtain(tmp_path, teacher__members=2)
  before = files(two.folder)
  more, _ = obtain(tmp_path, teacher__members=4)
  assert before.items() <= files(more.folder).items() and more.size == 4
  assert not (more.folder / 'checkpoints').exists()


def test_a_group_whose_members_are_all_stored_loses_its_checkpoints(four, copy):
  """A kill between the last member and the removal leaves them."""
  left = copy / four.folder.name / 'checkpoints' / 'members_7'
  with checkpoint.Checkpointer(left) as checkpointer:
    checkpointer.save(6, {'a': np.zeros(3)})
  _, writer = obtain(copy, teacher__members=4)
  assert writer.said('4 of 4 members found') and not left.exists()


def test_the_fingerprint_holds_what_decides_a_members_numbers():
  def of(dataset=DATA, **changes):
    return identity.fingerprint(member_identity.settings(tiny.config(**changes), dataset))

  same = [
    dict(teacher__members=7),
    dict(teacher__strategy='loop'),
    dict(teacher__together=2),
    dict(teacher__dir='/elsewhere'),
    dict(data__dir='/elsewhere'),
    dict(workdir='/elsewhere'),
    dict(name='other'),
    dict(student__steps=9),
    dict(student__network__name='resnet'),
    dict(objective__temperature=2.0),
    dict(evaluate__batch_size=3),
    dict(steps_per_call=1),
    dict(checkpoint_seconds=1.0),
  ]
  assert {of(**changes) for changes in same} == {of()}
  other = [
    dict(seed=1),
    dict(network__hidden=(9,)),
    dict(network__dtype='bfloat16'),
    dict(augment__crop=1),
    dict(teacher__steps=7),
    dict(teacher__batch_size=8),
    dict(teacher__order='shared'),
    dict(teacher__keep='last'),
    dict(teacher__optimizer__rate=0.2),
    dict(scores=3),
    dict(dataset=tiny.dataset(seed=1)),
  ]
  assert len({of(**changes) for changes in [{}, *other]}) == len(other) + 1
  rotated = member_identity.settings(tiny.config(augment__rotate=5.0), DATA)
  assert rotated['augment'] == {'rotate': 5.0, 'rotation': 2}
  assert member_identity.settings(tiny.config(augment__crop=1), DATA)['augment'] == {'crop': 1}
  last = dict(teacher__keep='last')
  assert of(**last) == of(**last, scores=3)  # scores choose nothing there


def test_members_share_their_batches_or_have_their_own():
  def batches(order):
    orders = train.network_keys(jax.random.key(0), range(3), order == 'shared')[1]
    return [np.asarray(data.sampler.indices(o, 5, size=48, batch=16)) for o in orders]

  a, b, c = batches('shared')
  np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(a, c)
  a, b, c = batches('own')
  assert (a != b).any() and (b != c).any()


def test_the_order_setting_reaches_the_members(four, tmp_path):
  """Shared batches keep initial weights and change the trained ones."""
  shared, _ = obtain(tmp_path, teacher__members=4, teacher__order='shared')
  assert tiny.largest_difference(shared.variables, four.variables) > 1e-3
  spread = jax.tree.map(lambda leaf: np.ptp(leaf, axis=0), shared.variables['params'])
  assert tiny.largest_difference(spread, jax.tree.map(np.zeros_like, spread)) > 0.01


def test_stored_outputs_are_reused_mended_and_one_file_a_data_set(copy):
  teacher, writer = obtain(copy)
  section = tiny.config().evaluate

  def outputs_on(dataset):
    return teacher.outputs_on(dataset, section, writer)

  def files_of_outputs():
    return sorted(teacher.folder.glob('outputs_*.safetensors'))

  outputs = outputs_on(DATA)
  x = DATA.train.x
  expected = teacher.freeze(teacher.variables).outputs(x)
  assert outputs.shape == (48, 3, 3)
  np.testing.assert_allclose(outputs, expected, atol=1e-5)
  assert not writer.said('outputs on the training inputs found')

  (path,) = files_of_outputs()
  tensors = {'outputs': outputs + 1}  # what is found is what lies there, not made again
  facts = json.loads(path.with_suffix('.json').read_text())
  del facts['sha256']
  sealed_arrays.save(path.parent, path.stem, tensors, facts)
  np.testing.assert_array_equal(outputs_on(DATA), outputs + 1)
  assert writer.said('outputs on the training inputs found') and not writer.said('warning')

  flip_bit(path)
  part = path.with_name(f'.{path.name}.{2**22 + 1}-7.part')  # left by a killed process
  part.touch()
  np.testing.assert_array_equal(outputs_on(DATA), outputs)
  assert writer.said('warning', path.name, 'damaged', 'computed again') and not part.exists()
  np.testing.assert_array_equal(tensor_files.load(path)['outputs'], outputs)

  facts = json.loads(path.with_suffix('.json').read_text())
  del facts['sha256']
  stale = facts | {'members': ['of another member', *facts['members'][1:]]}
  sealed_arrays.save(path.parent, path.stem, tensors, stale)
  np.testing.assert_array_equal(outputs_on(DATA), outputs)
  assert writer.said('warning', path.name, 'stale', 'computed again')

  other = outputs_on(tiny.replace(tiny.dataset(seed=1), fingerprint='another'))
  assert len(files_of_outputs()) == 2 and (other != outputs).any()
  np.testing.assert_array_equal(outputs_on(DATA), outputs)


def test_a_student_of_stored_outputs_learns_what_one_beside_its_teacher_does(copy):
  teacher, writer = obtain(copy)

  def student(targets):
    config = tiny.config(student__targets=targets, checkpoint_seconds=1e9)
    plan = tiny.plan(config, DATA, copy / targets)
    return distillation.distil(plan, teacher, writer).variables

  online = student('online')
  assert not list(teacher.folder.glob('outputs_*'))
  assert tiny.largest_difference(student('stored'), online) < 1e-5
  assert len(list(teacher.folder.glob('outputs_*.safetensors'))) == 1
