"""Students' folders from anyone: what is wrong is one StudentError, before anything is computed."""

import json
import pathlib
import random
import struct
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensor_files
import tiny
from attempts import VALUES

import ensdistill
from ensdistill import export, spec
from ensdistill.storage import safe, seals


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  plan = tiny.plan(tiny.config(), tiny.dataset(), tmp_path_factory.mktemp('run'))
  export.save_all(plan, tiny.untrained(plan)[1])
  return plan.folder / 'student'


@pytest.fixture
def written(folder, tmp_path):
  """A function that writes the student with another spec or other weights, sealed."""
  files = {name: (folder / name).read_bytes() for name in export.FILES}

  def write(found=None, weights=None):
    changed = dict(files)
    if found is not None:
      changed['config.json'] = json.dumps(found).encode()
    if weights is not None:
      changed['weights.safetensors'] = weights
    seals.write(tmp_path, 'student', changed)
    return tmp_path

  return write


def good(folder) -> dict:
  return json.loads((folder / 'config.json').read_text())


def crafted(found: dict, values):
  """Yield specs with one entry, or one setting of a section, missing or of another value."""
  places = [(found, name) for name in found]
  places += [(found[s], name) for s in ('network', 'student') for name in [*found[s], 'depth']]
  for section, name in places:
    before = dict(section)
    for value in values:
      section[name] = value
      yield found
    section.pop(name)
    yield found
    section.clear()
    section.update(before)


@pytest.mark.parametrize(
  'settings',
  [{'central': 'x'}, {'central': 0}, {'central': [1]}, {'valid': 'x'}, {'limit': [1]},
   {'split': None}, {'unreadable': ['skip']}, {'dir': 3}, {'stream': 'on'}],
)  # fmt: skip
def test_settings_of_data_are_checked(folder, written, settings):
  found = good(folder)
  found['data_settings'] |= settings
  with pytest.raises(ensdistill.StudentError, match='data_settings'):
    export.load(written(found), note=print)


@pytest.mark.parametrize('values', [VALUES[::6], pytest.param(VALUES, marks=pytest.mark.slow)])
def test_crafted_specs_are_refused_or_right(folder, written, values):
  """Nothing else is raised, and memory stays small."""
  student, accepted = export.load(folder), 0
  tracemalloc.start()
  for found in crafted(good(folder), values):
    try:
      loaded = export.load(written(found))
    except ensdistill.StudentError as error:
      assert '\n' not in str(error) and 'config.json' in str(error)
    else:
      accepted += 1
      assert jax.tree.structure(loaded.variables) == jax.tree.structure(student.variables)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 30e6, peak
  assert 0 < accepted < 200


@pytest.mark.parametrize(
  'network',
  [
    {'name': 'mlp', 'hidden': [8] * 10**6},
    {'name': 'mlp', 'hidden': [10**9]},
    {'name': 'resnet', 'depth': 6 * 10**8 + 2},
    {'name': 'vit', 'patch': 1, 'channels': 4, 'depth': 10**9, 'heads': 1},
    {'name': 'wide_resnet', 'depth': 10, 'width': 10**6},
  ],
)
def test_networks_larger_than_their_weights_are_refused_unbuilt(folder, written, network):
  found = good(folder) | {'network': network | {'dtype': 'float32'}, 'shape': [512, 512, 1]}
  with pytest.raises(ensdistill.StudentError, match='stored'):
    export.load(written(found))


def tensors(folder):
  return tensor_files.load(folder / 'weights.safetensors')


def test_every_tensor_is_compared_with_the_network(folder, written):
  whole = tensors(folder)
  name = min(whole)
  for changed in (
    {k: v for k, v in whole.items() if k != name},
    whole | {'params/other': np.zeros(2, np.float32)},
    whole | {name: whole[name].astype(np.float16)},
    whole | {name: np.zeros((*whole[name].shape, 1), np.float32)},
  ):
    content = safe.tensors_content('w', changed)
    with pytest.raises(ensdistill.StudentError, match='in the file, .* in the network'):
      export.load(written(weights=content))


def header(entries: dict, data=b'') -> bytes:
  text = json.dumps(entries).encode()
  return struct.pack('<Q', len(text)) + text + data


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'\xff' * 64,
    struct.pack('<Q', 2**60) + b'{}',
    header({'params/a': {'dtype': 'F32', 'shape': [2**40], 'data_offsets': [0, 4]}}, b'1234'),
    header({'params/a': {'dtype': 'F32', 'shape': [2**62, 8], 'data_offsets': [0, 4]}}, b'1234'),
    header({'params/a': {'dtype': 'F99', 'shape': [1], 'data_offsets': [0, 4]}}, b'1234'),
    header({'a': {'dtype': 'U8', 'shape': [0], 'data_offsets': [0, 0]}}),
    header({'a//b': {'dtype': 'U8', 'shape': [1], 'data_offsets': [0, 1]}}, b'1'),
  ],
)
def test_hostile_weights_are_refused(written, content):
  with pytest.raises(ensdistill.StudentError, match=r'weights\.safetensors'):
    export.load(written(weights=content))


def test_random_bytes_in_a_resealed_folder(folder, written):
  rng, config = random.Random(0), (folder / 'config.json').read_bytes()
  for _ in range(60):
    content = bytearray(config)
    for _ in range(rng.randrange(1, 4)):
      content[rng.randrange(len(content))] = rng.randrange(256)
    target = written()
    files = {name: (folder / name).read_bytes() for name in export.FILES}
    seals.write(target, 'student', files | {'config.json': bytes(content)})
    try:
      export.load(target)
    except ensdistill.StudentError as error:
      assert '\n' not in str(error)


def test_a_readme_may_be_edited(folder):
  (folder / 'README.md').write_text('edited')
  assert export.load(folder).spec['made_by']['fingerprints']['config']


def test_nothing_there_is_named(tmp_path):
  for path in (tmp_path, tmp_path / 'x', pathlib.Path('/dev/null')):
    with pytest.raises(ensdistill.StudentError, match='holds no student|does not exist|is damaged'):
      export.load(path)


def test_a_run_without_a_student_is_not_called_damaged(tmp_path):
  seals.write_json(tmp_path / 'config.json', {'teacher': {}, 'student': {}, 'objective': {}})
  with pytest.raises(ensdistill.StudentError, match='no student yet: finish the run') as error:
    export.load(tmp_path)
  assert 'remove' not in str(error.value)


def test_a_student_matches_its_own_variables():
  student = tiny.plan(tiny.config(student__kind='batch_ensemble'), tiny.dataset()).student.student
  variables = safe.flatten(tiny.moved(student.module, jnp.zeros((1, 8, 8, 1))))
  spec.compare(student, (8, 8, 1), variables)
  name = min(variables)
  with pytest.raises(ValueError, match=f'{name}. is absent in the file'):
    spec.compare(student, (8, 8, 1), {k: v for k, v in variables.items() if k != name})
