"""Networks over whole sets, and the command that evaluates a finished student."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pictures
import pytest
import tiny

import ensdistill
from ensdistill import compare, data, export, members, mesh, nets, students
from ensdistill.commands import evaluate as evaluate_command
from ensdistill.evaluation import inference
from ensdistill.logs import writers
from ensdistill.predictive import GaussianMixture
from ensdistill.student.folder import stablehlo


def applying(function, batch=8) -> inference.Predictor:
  """Return what applies function(variables, x) to whole sets."""

  def freeze(variables):
    return members.Members(1, lambda x: function(variables, x))

  return inference.Predictor(None, freeze, batch=batch)


@pytest.mark.parametrize('size', [1, 7, 8, 9, 24, 27])
def test_every_example_exactly_once(size):
  traced = []

  def function(variables, x):
    traced.append(x.shape)
    return {'twice': 2 * x + variables, 'sum': x.sum(1)}

  predictor = applying(function)
  x = np.arange(size * 3, dtype=np.float32).reshape(size, 3)
  for offset in (1.0, 2.0):
    found = predictor.outputs(jnp.float32(offset), x)
    np.testing.assert_array_equal(found['twice'], 2 * x + np.float32(offset))
    np.testing.assert_array_equal(found['sum'], x.sum(1))
  assert traced == [(8, 3)]  # one program, whatever the size
  assert all(isinstance(part, np.ndarray) for part in found.values())


def test_predictions_come_block_by_block_in_the_targets_units():
  def predictive(outputs_BMO):
    mean, log_var = jnp.split(outputs_BMO, 2, -1)
    return GaussianMixture(mean, log_var)

  def freeze(variables):
    return members.Members(1, lambda x: variables * x[:, None, :2])

  x = np.arange(39, dtype=np.float32).reshape(13, 3)
  predictor = inference.Predictor(predictive, freeze, units=((10.0,), (2.0,)), batch=8)
  blocks = list(predictor.blocks(jnp.float32(1), x))
  assert [len(block.mean_BMD) for block in blocks] == [8, 5]
  whole = predictor(jnp.float32(1), x)
  np.testing.assert_array_equal(np.concatenate([b.mean_BMD for b in blocks]), whole.mean_BMD)
  np.testing.assert_allclose(whole.mean_BMD[:, 0, 0], 10 + 2 * x[:, 0], rtol=1e-6)


def network(name, **settings):
  backbone = nets.build(name, shape=(8, 8, 1), mean=(0.3,), std=(0.3,), **settings)
  student = students.make('single', backbone, 3)
  return student, jax.jit(student.module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def test_padding_changes_no_number():
  student, variables = network('resnet', depth=8)
  x = tiny.dataset().train.x[:13]
  predictor = inference.Predictor(None, student.freeze, batch=8)
  whole = predictor.outputs(variables, x)
  assert whole.shape == (13, 1, 3) and whole.dtype == np.float32
  for size in (1, 5, 8, 12):
    np.testing.assert_array_equal(predictor.outputs(variables, x[:size]), whole[:size])


def test_all_ways_over_a_set_agree():
  student, variables = network('mlp', hidden=(8,))
  x = tiny.dataset().train.x[:13]
  expected = student.module.apply(variables, x)
  found = inference.Predictor(None, student.freeze, batch=4).outputs(variables, x)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  settings = {'batch': 4, 'device_mesh': mesh.make(1, 4)}
  within = inference.over(lambda x: student.module.apply(variables, x), jnp.asarray(x), **settings)
  np.testing.assert_allclose(within, expected, atol=1e-5)


def test_stored_bytes_reach_the_network_as_fractions():
  x = np.array([[[[0]]], [[[255]]], [[[51]]]], np.uint8)
  found = applying(lambda variables, x: x[:, 0, 0, 0]).outputs((), x)
  np.testing.assert_allclose(found, [0, 1, 0.2], rtol=1e-6)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """What a run leaves of its students, and its rows."""
  folder = tmp_path_factory.mktemp('run')
  config = tiny.config(
    data__name='digits',
    data__limit=60,
    evaluate__ood='default',
    evaluate__shift='contrast',
    evaluate__shift_examples=30,
  )
  dataset = data.load('digits', limit=60)
  plan = tiny.plan(config, dataset, folder)
  teacher, distilled = tiny.untrained(plan)
  compared = compare.compare(plan, teacher, distilled, writers.Silent())
  export.save_all(plan, distilled)
  return folder, compared.rows[-1]


def test_what_is_exported_has_the_forms_of_no_machine():
  """On a CPU a BatchEnsemble computes a convolution a member."""
  network = dict(network__name='resnet', network__hidden=None, network__depth=8)
  config = tiny.config(student__kind='batch_ensemble', **network)
  dataset = data.load('digits', limit=20)
  student = tiny.plan(config, dataset).student.student
  variables = tiny.moved(student.module, jnp.zeros((1, 8, 8, 1)))
  spec = {'shape': [8, 8, 1], 'dtype': 'float32'}
  exported = jax.export.deserialize(bytearray(stablehlo(spec, student, variables)))
  plain = dataclasses.replace(student, module=nets.with_form(student.module, 'plain'))
  expected = stablehlo(spec, plain, variables)

  def convolutions(exported):
    return exported.mlir_module().count('stablehlo.convolution')

  assert convolutions(exported) == convolutions(jax.export.deserialize(bytearray(expected))) > 5
  x = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
  expected = jax.jit(student.module.apply)(variables, x)
  np.testing.assert_allclose(exported.call(variables, x), expected, rtol=1e-4, atol=1e-4)


def test_the_command_repeats_the_students_row(run, tmp_path, capsys):
  folder, row = run
  out = tmp_path / 'new' / 'found.json'
  flags = ['--shift=contrast', '--shift_examples=30', '--batch_size=7', f'--out={out}']
  evaluate_command.main([f'--student={folder}', *flags])
  found = json.loads(out.read_text(), parse_constant=pytest.fail)
  (ours,) = found['rows']
  assert ours['name'] == row['name'] == 'student'
  theirs = row['metrics']
  with_others = ('gap_closed/', 'agreement', 'dee')
  alone = {k for k in theirs if not k.rsplit('/', 1)[-1].startswith(with_others)}
  alone = {k for k in alone if not k.startswith(with_others)}
  assert set(ours['metrics']) == alone
  times = {key for key in alone if key.startswith('ms_per_example')}
  assert len(times) == 4 and all(ours['metrics'][key] >= 0 for key in times)
  assert {'params', 'flops'} < alone and found['versions']['processor']
  for key in alone - times:
    number = theirs[key] if theirs[key] == theirs[key] else None  # NaN is null
    assert ours['metrics'][key] == pytest.approx(number, rel=1e-4, abs=1e-6), key
  printed = capsys.readouterr().out
  shown = 'tiny on digits, 60 test', 'ood/photographs', 'shift/contrast/5', 'shift/mean/1'
  for text in (*shown, 'not comparable with CIFAR-10-C'):
    assert text in printed
  assert f'{ours["metrics"]["nll"]:.4f} ± {row["test_se"]["nll"]:.2g}' in printed
  assert f'{ours["metrics"]["params"]:,}' in printed and 'ms/example' in printed


def test_the_command_on_another_set(run, tmp_path, capsys):
  """Colour images of another size, with ten classes."""
  folder, _ = run
  random = np.random.default_rng(0)
  arrays = {}
  for part in ('train', 'test'):
    arrays[f'x_{part}'] = random.integers(0, 256, (40, 16, 16, 3), np.uint8)
    arrays[f'y_{part}'] = np.arange(40) % 10
  np.savez(tmp_path / 'other.npz', **arrays)
  flags = ['--data=other', f'--data_dir={tmp_path}', '--ood=notmnist', '--shift=none']
  evaluate_command.main([f'--student={folder / "student"}', *flags])
  printed = capsys.readouterr().out
  assert 'tiny on other, 40 test examples' in printed
  assert 'not run: ood/notmnist' in printed and 'shift/' not in printed


def test_the_command_skips_unreadable_images(run, tmp_path, capsys):
  for number in range(4):
    pictures.write(tmp_path / f'{number}.png', pictures.colour(0, number))
  pictures.damage(tmp_path / '2.png')
  out = tmp_path / 'found.json'
  for unreadable, count in (('stop', None), ('skip', 3)):
    flags = [f'--ood=folder:{tmp_path}', '--shift=none', f'--unreadable={unreadable}']
    evaluate_command.main([f'--student={run[0]}', *flags, f'--out={out}'])
    found = json.loads(out.read_text())
    assert found['examples'].get(f'ood/folder:{tmp_path}') == count
    assert len(found['not_run']) == (count is None)


def trained_on(name, dataset, **settings):
  """What of a student says what it was trained on."""
  spec = dict(data=name, data_settings={'seed': 0} | settings, family=dataset.family)
  spec |= dict(targets=dataset.targets, shape=list(dataset.shape))
  spec |= dict(classes=list(dataset.classes) if dataset.classes else None)
  return types.SimpleNamespace(spec=spec)


def test_another_table_has_the_same_target(tmp_path):
  random = np.random.default_rng(0)
  for name in ('a', 'b'):
    rows = '\n'.join(','.join(map(str, row)) for row in random.random((40, 3)))
    (tmp_path / f'{name}.csv').write_text(f'u,v,w\n{rows}\n')
  settings = {'target': 'v', 'family': 'gaussian'}
  first = data.load('csv:a.csv', dir=str(tmp_path), **settings)
  student = trained_on('csv:a.csv', first, **settings)
  other = evaluate_command.dataset_of(student, 'csv:b.csv', str(tmp_path))
  assert other.columns == first.columns == ('u', 'w') and other.fingerprint != first.fingerprint
  student.spec['inputs'] = {'columns': ['u', 'w']}
  other = evaluate_command.dataset_of(student, 'csv:b.csv', str(tmp_path))
  rows = (tmp_path / 'b.csv').read_text().partition('\n')[2]
  (tmp_path / 'c.csv').write_text(f'w,v,u\n{rows}')
  with pytest.raises(ValueError, match="has the columns 'w', 'u', the student was trained on 'u'"):
    evaluate_command.dataset_of(student, 'csv:c.csv', str(tmp_path))


def test_another_folder_is_read_alike_and_has_the_same_classes(tmp_path):
  for name in ('a', 'b'):
    pictures.folder(tmp_path / name, (10, 10), (16, 16))
  settings = {'size': 8, 'central': 0.5}
  first = data.load(f'folder:{tmp_path}/a', **settings)
  student = trained_on('folder:a', first, **settings)
  other = evaluate_command.dataset_of(student, f'folder:{tmp_path}/b')
  assert other.fingerprint == data.load(f'folder:{tmp_path}/b', **settings).fingerprint
  pictures.damage(tmp_path / 'b' / 'class_0' / '003.png')
  other = evaluate_command.dataset_of(student, f'folder:{tmp_path}/b', unreadable='skip')
  assert len(other.skipped) == 1
  (tmp_path / 'a' / 'class_0').rename(tmp_path / 'a' / 'class_2')
  with pytest.raises(
    ValueError, match="has class 'class_1' where the student was trained on 'class_0'"
  ):
    evaluate_command.dataset_of(student, f'folder:{tmp_path}/a')


@pytest.mark.parametrize(
  'flags, code, message',
  [
    ([], 2, 'required: --student'),
    (['--student=RUN', '--shft=none'], 2, "unknown argument '--shft': did you mean '--shift'?"),
    (['--student=RUN', '--unreadable=x'], 2, "unknown data.unreadable 'x'"),
    (['--student=RUN', '--batch_size=0'], 2, '--batch_size=0 must be at least 1'),
    (['--student=RUN', '--data=digts'], 2, "unknown data set 'digts': did you mean 'digits'"),
    (['--student=RUN', '--data=spirals'], 2, 'the student predicts 10'),
    (['--student=RUN', '--shift=fog'], 2, "unknown shift 'fog'"),
    (['--student=RUN', '--data=mnist', '--data_dir=/nowhere'], 1, "'mnist' is not prepared"),
    (['--student=/nowhere'], 1, '/nowhere does not exist: name the folder'),
  ],
)
def test_errors_are_one_line(run, capsys, flags, code, message):
  with pytest.raises(SystemExit) as stopped:
    evaluate_command.main([flag.replace('RUN', str(run[0])) for flag in flags])
  error = capsys.readouterr().err
  assert stopped.value.code == code
  assert message in error and error.count('\n') == 1, error


def test_help_lists_the_flags(capsys):
  with pytest.raises(SystemExit) as stopped:
    evaluate_command.main(['--help'])
  assert stopped.value.code == 0
  printed = capsys.readouterr().out
  assert '--student DIR' in printed and '--shift_examples N' in printed


def test_a_damaged_student_is_refused(run, tmp_path, capsys):
  for file in (run[0] / 'student').iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  weights = tmp_path / 'weights.safetensors'
  weights.write_bytes(weights.read_bytes()[:-4] + b'oops')
  with pytest.raises(SystemExit) as stopped:
    evaluate_command.main([f'--student={tmp_path}'])
  assert stopped.value.code == 1 and 'weights.safetensors' in capsys.readouterr().err
  (tmp_path / 'config.json').write_text('[1]')
  with pytest.raises(ensdistill.StudentError, match='config.json is damaged .its content'):
    export.load(tmp_path)
