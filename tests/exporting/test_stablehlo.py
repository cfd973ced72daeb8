"""StableHLO files: loaded without the network, checked, refused when damaged."""

import subprocess
import sys

import exported
import jax
import numpy as np
import pytest

import ensdistill
from ensdistill.exporting import inference, stablehlo


def write(model, path, batch=None):
  function = inference.of(model)
  return stablehlo.write(function, lambda b: inference.description(model, b), path, batch)


@pytest.fixture(scope='module')
def model():
  return exported.student('categorical', 'multi_head', 3, 'members')


@pytest.fixture(scope='module')
def file(model, tmp_path_factory):
  path = tmp_path_factory.mktemp('files') / 'student.stablehlo'
  assert write(model, path)['batch'] is None
  return path


def test_any_number_of_examples(model, file):
  program = ensdistill.load_stablehlo(file)
  for size in (1, 5):
    x = exported.examples(model, size)
    found, expected = program(x), inference.expected(model, x)
    assert list(expected) == program.outputs and found.keys() == expected.keys()
    for name, values in expected.items():
      np.testing.assert_allclose(found[name], values, atol=1e-6)
  assert program(np.zeros((0, 8, 8, 1)))['members'].shape == (0, 3, 3)
  assert program.classes == model.classes
  assert repr(program) == (
    '<student.stablehlo: [N, 8, 8, 1] to probabilities, total, data, knowledge, members>'
  )


def test_a_fixed_batch_takes_any_number_in_blocks(model, tmp_path):
  path = tmp_path / 'fixed.stablehlo'
  assert write(model, path, 4)['batch'] == 4
  x = exported.examples(model, 6)
  found = ensdistill.load_stablehlo(path)(x)['probabilities']
  np.testing.assert_allclose(found, model.predict(x).probs, atol=1e-6)


def test_jax_alone_reads_the_file(model, file):
  exported_program = jax.export.deserialize(bytearray(file.read_bytes()))
  assert exported_program.platforms == ('cpu', 'cuda', 'tpu')
  x = exported.examples(model)
  found = exported_program.call(x)['probabilities']
  np.testing.assert_allclose(found, model.predict(x).probs, atol=1e-6)


def test_images_are_taken_as_a_student_takes_them(model, file):
  program, x = ensdistill.load_stablehlo(file), exported.examples(model)
  whole = (x * 255).astype(np.uint8)
  np.testing.assert_allclose(program(whole)['probabilities'], model.predict(whole).probs, atol=1e-6)
  assert program(x.astype(np.float64))['total'].dtype == np.float32


@pytest.mark.parametrize(
  'x, reason',
  [
    (np.zeros((2, 8, 8, 3)), r'have shape \[2, 8, 8, 3\], the student takes \[N, 8, 8, 1\]'),
    (np.zeros((2, 8, 8, 1), int), r'hold int64 from 0 to 0, the student takes uint8 or floats'),
    (np.full((2, 8, 8, 1), 200.0), r'images\[0\] holds 200, .* pass scale=1/255'),
    (np.full((2, 8, 8, 1), np.nan), r'row 0, .* holds NaN'),
  ],
)
def test_wrong_inputs_are_one_line(file, x, reason):
  with pytest.raises(ValueError, match=reason):
    ensdistill.load_stablehlo(file)(x)


def test_scaled_and_invalid_inputs_as_a_student_takes_them(model, file):
  program, x = ensdistill.load_stablehlo(file), exported.examples(model, 2)
  np.testing.assert_allclose(
    program(x * 255, scale=1 / 255)['total'], program(x)['total'], rtol=1e-5
  )
  broken = x.copy()
  broken[0, 3, 3] = np.nan
  found = program(broken, on_invalid='flag')
  assert all(np.isnan(values[0]).all() for values in found.values())
  np.testing.assert_array_equal(found['members'][1], program(x)['members'][1])


def test_a_table_by_the_names_of_its_columns(tmp_path):
  model = exported.student(shape=(3,))
  model.spec['inputs']['columns'] = ['a', 'b', 'c']
  write(model, tmp_path / 'a.stablehlo')
  program = ensdistill.load_stablehlo(tmp_path / 'a.stablehlo')
  found = program([{'c': 3, 'a': 1, 'b': 2}])['probabilities']
  np.testing.assert_array_equal(program([1, 2, 3])['probabilities'], found)
  with pytest.raises(ValueError, match="missing 'b'"):
    program({'a': 1, 'c': 3})


def test_few_programs_serve_all_sizes(model, file):
  program = ensdistill.load_stablehlo(file)
  sizes = []
  call = program._call

  def counted(x):
    sizes.append(len(x))
    return call(x)

  program._call = counted
  x = exported.examples(model, 5)
  for size in range(1, 6):
    np.testing.assert_allclose(program(x[:size])['total'], model.predict(x[:size]).total, atol=1e-6)
  assert sizes == [1, 2, 4, 4, 8]


def test_bytes_are_not_guessed_from_floats(tmp_path):
  model = exported.student(dtype='uint8')
  write(model, tmp_path / 'a.stablehlo')
  program, x = ensdistill.load_stablehlo(tmp_path / 'a.stablehlo'), exported.examples(model)
  np.testing.assert_allclose(program(x)['probabilities'], model.predict(x).probs, atol=1e-6)
  with pytest.raises(ValueError, match=r'hold float64, a.stablehlo takes uint8 from 0 to 255'):
    program(x / 255)
  with pytest.raises(ValueError, match=r'scale=0.5 gives floats, a.stablehlo takes uint8'):
    program(x, scale=0.5)


def test_damage_is_named(file, tmp_path):
  content, path = file.read_bytes(), tmp_path / 'damaged.stablehlo'
  random = np.random.default_rng(0)
  for _ in range(20):
    changed = bytearray(content)
    changed[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(changed)
    with pytest.raises(ValueError, match='damaged.stablehlo is (damaged|no StableHLO file)'):
      ensdistill.load_stablehlo(path)
  for size in (0, 10, len(content) // 2, len(content) - 1):
    path.write_bytes(content[:size])
    with pytest.raises(ValueError, match='is no StableHLO file of a student, or was cut off'):
      ensdistill.load_stablehlo(path)
  path.write_bytes(stablehlo.content(b'no program', {}))
  with pytest.raises(ValueError, match='cannot be read by jax'):
    ensdistill.load_stablehlo(path)
  with pytest.raises(FileNotFoundError, match='nowhere'):
    ensdistill.load_stablehlo(tmp_path / 'nowhere')


def test_no_network_is_imported(file):
  code = (
    'import sys, ensdistill, numpy as np\n'
    f'ensdistill.load_stablehlo({str(file)!r})(np.zeros((1, 8, 8, 1), np.float32))\n'
    "print([name for name in ('flax', 'optax', 'ensdistill.nets') if name in sys.modules])"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.stdout == '[]\n', done.stderr
