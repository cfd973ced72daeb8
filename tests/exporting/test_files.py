"""Every kind of student in every format: written, loaded back by its own runtime, compared."""

import dataclasses
import importlib.util
import json

import exported
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensdistill
from ensdistill.exporting import files, inference, parity
from ensdistill.exporting.onnx import elementwise, graph

HERE = {
  kind: all(importlib.util.find_spec(package) for package in form.packages)
  for kind, form in files.FORMATS.items()
}
TENSORFLOW = ('savedmodel', 'tflite')
# Of each family, one with members and one whose outputs describe them; the others are slow tests.
QUICK = ('multi_head', 'dirichlet', 'normal_wishart')
STUDENTS = [
  pytest.param(one, id=' '.join(map(str, one)), marks=[pytest.mark.slow] * (not {*QUICK} & {*one}))
  for one in exported.ALL
]
DEEP = ('resnet', 'wide_resnet', 'vgg', 'vit', 'imagenet_resnet')


def needs(kind):
  if not HERE[kind]:
    pytest.skip(f'the packages of {kind} are not installed')


def check(model, kind, folder, batch=None):
  """Write a student and compare the file with it, on other inputs than the gate's."""
  needs(kind)
  written = files.write(model, kind, folder / f'student{files.FORMATS[kind].suffix}', batch=batch)
  x = exported.examples(model, parity.RANDOM, seed=3)  # this size of a batch is compiled already
  found = files.FORMATS[kind].load(written.path)(x[:5])
  expected = {name: values[:5] for name, values in inference.expected(model, x).items()}
  differences = parity.differences(expected, found, model.family.has_classes)
  assert max(differences.values()) < 1e-5 * (100 if kind in TENSORFLOW else 5), differences
  assert max(written.parity['random'].values()) <= parity.LIMIT
  return written


@pytest.mark.parametrize('student', STUDENTS)
@pytest.mark.parametrize('kind', ['onnx', 'stablehlo'])
def test_every_kind_of_student(kind, student, tmp_path):
  assert check(exported.student(*student), kind, tmp_path).facts['batch'] is None


@pytest.mark.slow
@pytest.mark.parametrize('network', DEEP)
@pytest.mark.parametrize('student', exported.KINDS['categorical'][:3], ids=str)
def test_every_network_in_onnx(student, network, tmp_path):
  model = exported.student('categorical', *student, network, shape=(16, 16, 3), dtype='uint8')
  assert check(model, 'onnx', tmp_path).facts['batch'] is None


@pytest.mark.slow
@pytest.mark.parametrize('network', DEEP)
def test_every_network_in_stablehlo(network, tmp_path):
  model = exported.student('categorical', 'multi_head', 3, 'members', network, dtype='uint8')
  assert check(model, 'stablehlo', tmp_path).facts['batch'] is None


@pytest.mark.slow
@pytest.mark.parametrize('student', exported.ALL, ids=str)
@pytest.mark.parametrize('kind', TENSORFLOW)
@pytest.mark.filterwarnings('ignore')
def test_every_kind_of_student_in_tensorflow(kind, student, tmp_path):
  assert check(exported.student(*student), kind, tmp_path, batch=2).facts['batch'] == 2


@pytest.mark.slow
@pytest.mark.parametrize('network', DEEP)
@pytest.mark.parametrize('kind', TENSORFLOW)
@pytest.mark.filterwarnings('ignore')
def test_every_network_in_tensorflow(kind, network, tmp_path):
  model = exported.student('categorical', 'multi_head', 3, 'members', network, dtype='uint8')
  assert check(model, kind, tmp_path).facts['batch'] == 1


OTHER = {
  'pooled, group norm': dict(
    network='vgg', settings=dict(depth=11, channels=2, head='pooled', norm='group')
  ),
  'deep heads': dict(
    network='wide_resnet', kind='multi_head', members=2, objective='members', head_stages=3
  ),
  'own biases': dict(
    kind='batch_ensemble', members=2, objective='members', bias='member', factors='normal'
  ),
  'one variance': dict(family='gaussian', variance='scalar'),
}


@pytest.mark.slow
@pytest.mark.parametrize('settings', OTHER.values(), ids=OTHER)
def test_other_settings(settings, tmp_path):
  check(exported.student(**settings), 'onnx', tmp_path)


def test_convolutions(tmp_path):
  check(exported.student(network='resnet', dtype='uint8'), 'onnx', tmp_path)


def test_a_fixed_batch(tmp_path):
  written = check(exported.student(), 'onnx', tmp_path, batch=3)
  assert written.facts['batch'] == 3


def test_a_student_of_bfloat16_is_written_in_float32(tmp_path):
  model = exported.student()
  backbone = dataclasses.replace(model.student.module.backbone, dtype=jnp.bfloat16)
  module = model.student.module.clone(backbone=backbone)
  rough = dataclasses.replace(model, student=dataclasses.replace(model.student, module=module))
  path = tmp_path / 'a.stablehlo'
  written = ensdistill.exporting.write(rough, 'stablehlo', path, test=exported.examples(model))
  assert 'bfloat16 and the file in float32: outputs differ by up to 0.0' in written.facts['note']
  assert max(written.parity['test'].values()) < 1e-5  # from the student in float32
  assert written.examples == {'test': 7, 'random': parity.RANDOM}


def test_the_record_beside_the_file(tmp_path):
  written = check(exported.student(), 'onnx', tmp_path)
  assert written.record == tmp_path / 'student.onnx.json'
  record = json.loads(written.record.read_text())
  assert record['opset'] == graph.OPSET and record['format'] == 'onnx'
  assert record['parity']['random']['examples'] == parity.RANDOM
  assert record['parity']['random']['probabilities'] == written.parity['random']['probabilities']
  assert record['outputs']['probabilities'] == [3] and record['versions']['onnxruntime']
  assert record['sha256'] == files._digest(written.path)[0]
  assert sorted(path.name for path in tmp_path.iterdir()) == ['student.onnx', 'student.onnx.json']


def test_the_onnx_file_describes_itself(tmp_path):
  onnx = pytest.importorskip('onnx')
  model = exported.student('categorical', 'multi_head', 3, 'members')
  found = onnx.load(str(check(model, 'onnx', tmp_path).path))
  about = {entry.key: entry.value for entry in found.metadata_props}
  assert json.loads(about['classes']) == model.classes and about['student'] == 'multi_head'
  assert json.loads(about['input'])['dtype'] == 'float32' and len(about['weights_sha256']) == 64
  assert [o.name for o in found.graph.output] == list(inference.of(model).outputs())
  (taken,) = found.graph.input
  assert taken.type.tensor_type.shape.dim[0].dim_param == 'batch'


def test_a_wrong_converter_writes_nothing(tmp_path, monkeypatch):
  needs('onnx')
  identity = elementwise.HANDLERS['stop_gradient']
  monkeypatch.setitem(files.onnx_file.convert.HANDLERS, 'exp', identity)
  old = tmp_path / 'student.onnx'
  old.write_text('an older file')
  with pytest.raises(
    parity.Rejected, match="differs by .* from the student's on random .* such as stablehlo"
  ):
    files.write(exported.student(), 'onnx', old)
  assert [path.name for path in tmp_path.iterdir()] == ['student.onnx']
  assert old.read_text() == 'an older file'


def test_an_unknown_primitive_is_named(tmp_path):
  needs('onnx')
  model = exported.student(shape=(5,))
  function = inference.of(model)

  def growing(variables, x):
    return function.call(variables, jax.lax.cummax(x, 1))

  with pytest.raises(ValueError, match="'cummax' has no form in ONNX here: --to=stablehlo takes"):
    files.onnx_file.write(
      function._replace(call=growing), lambda batch: {}, tmp_path / 'a.onnx', None
    )


def test_a_network_that_needs_a_fixed_batch_gets_one(tmp_path):
  needs('onnx')
  model = exported.student(shape=(5,))
  function = inference.of(model)

  def counting(variables, x):
    return function.call(variables, x + jnp.arange(x.shape[0], dtype=jnp.float32)[:, None] * 0)

  for kind in ('onnx', 'stablehlo'):
    form, path = files.FORMATS[kind], tmp_path / f'a.{kind}'

    def description(batch):
      return inference.description(model, batch)

    facts = form.write(function._replace(call=counting), description, path, None)
    if kind == 'stablehlo':  # it counts with a symbol
      assert facts['batch'] is None
    else:
      assert facts['batch'] == 1 and 'fixed at 1' in facts['note']
    x = exported.examples(model)
    found = form.load(path)(x)['probabilities']
    np.testing.assert_allclose(found, model.predict(x).probs, atol=1e-5)


def test_what_is_not_replaced(tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'note').write_text('mine')
  with pytest.raises(ValueError, match='holds other files'):
    files._check_place(files.FORMATS['savedmodel'], tmp_path / 'mine', tmp_path / 'mine.json')
  with pytest.raises(ValueError, match='is a folder'):
    files.write(exported.student(), 'stablehlo', tmp_path / 'mine')


@pytest.mark.parametrize(
  'name, reason',
  [
    ('config', 'config.json, the place of the record, holds something else'),
    ('notes', 'notes exists, and is not an earlier export'),
  ],
)
def test_only_earlier_exports_are_replaced(name, reason, tmp_path):
  for other in ('config.json', 'notes'):
    (tmp_path / other).write_text('{"mine": 1}')
  with pytest.raises(ValueError, match=reason):
    files.write(exported.student(), 'stablehlo', tmp_path / name)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['config.json', 'notes']
  (tmp_path / 'notes.json').write_text('{"file": "notes", "format": "onnx", "parity": {}}')
  files._check_place(files.FORMATS['onnx'], tmp_path / 'notes', tmp_path / 'notes.json')


@pytest.mark.parametrize('batch', [0, -1, 2.5, True])
def test_a_batch_is_a_whole_number(batch, tmp_path):
  with pytest.raises(ValueError, match=f'batch={batch} must be a whole number from 1'):
    files.write(exported.student(), 'stablehlo', tmp_path / 'a.stablehlo', batch=batch)


class Interrupted(BaseException):
  """Like Ctrl-C."""


@pytest.fixture
def faked(monkeypatch):
  """Formats without work: every write succeeds and agrees, and a test makes some step fail."""

  def write(function, describe, path, batch):
    path.write_text('new')
    return {'batch': batch}

  monkeypatch.setitem(files.FORMATS, 'stablehlo', files.Format('.stablehlo', write, str))
  monkeypatch.setattr(parity, 'check', lambda *_: {'random': {'total': 0.0}})

  def fail(module, name, error, at=1):
    calls, original = [], getattr(module, name)

    def failing(*arguments):
      calls.append(name)
      if len(calls) == at:
        raise error
      return original(*arguments)

    monkeypatch.setattr(module, name, failing)

  return fail


FAILURES = {
  'comparing': (parity, 'check', Interrupted()),
  'in bfloat16': (files, '_of_bfloat16', Interrupted()),
  'the record': (files.seals, 'to_json', OSError(28, 'No space left on device')),
  'stopped': (files.stopping, 'check', files.stopping.Stopped(2)),
  'the name': (files.os, 'replace', Interrupted()),
}


@pytest.mark.parametrize('failure', FAILURES)
def test_after_an_interruption_the_older_file_and_its_record_remain(failure, tmp_path, faked):
  model, path = exported.student(shape=(3,)), tmp_path / 'a.stablehlo'
  files.write(model, 'stablehlo', path)
  old = (tmp_path / 'a.stablehlo.json').read_text()
  path.write_text('older')
  faked(*FAILURES[failure])
  with pytest.raises((Interrupted, files.stopping.Stopped, OSError)):
    files.write(model, 'stablehlo', path)
  assert path.read_text() == 'older' and (tmp_path / 'a.stablehlo.json').read_text() == old
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.stablehlo', 'a.stablehlo.json']


def test_a_folder_comes_back_if_the_new_one_gets_no_name(tmp_path, faked):
  new, old = tmp_path / 'new', tmp_path / 'old'
  for folder in (new, old):
    folder.mkdir()
    (folder / 'content').write_text(folder.name)
  faked(files.os, 'replace', Interrupted(), at=2)
  with pytest.raises(Interrupted):
    files._replace(new, old)
  assert (old / 'content').read_text() == 'old'
  files._replace(new, old)
  assert (old / 'content').read_text() == 'new' and list(tmp_path.iterdir()) == [old]


def test_a_place_that_refuses_files_is_named_before_the_work(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.setitem(files.FORMATS, 'stablehlo', files.Format('.stablehlo', None, None))
  with pytest.raises(OSError, match='cannot be written: .*a.stablehlo'):
    files.write(exported.student(shape=(3,)), 'stablehlo', tmp_path / 'file' / 'a.stablehlo')


def test_missing_packages_are_named(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r'needs the package onnx: pip install "ensdistill\[onnx\]"'):
    files.check_packages('onnx')
