"""`ensdistill export` and `ensdistill push`: files that are read back, and a fake client."""

import importlib.util
import json
import shutil
import sys
import types

import numpy as np
import pytest
import tiny

from ensdistill import cli, data, export, load_stablehlo
from ensdistill.commands import push
from ensdistill.exporting import parity


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  config = tiny.config(data__name='digits', data__limit=60)
  plan = tiny.plan(config, data.load('digits', limit=60), tmp_path_factory.mktemp('run'))
  export.save_all(plan, tiny.untrained(plan)[1])
  return plan.folder


def call(*arguments, capsys):
  try:
    code = cli.main(list(map(str, arguments)))
  except SystemExit as error:
    code = error.code
  found = capsys.readouterr()
  return code, found.out, found.err


def test_a_variant_is_measured_and_calibrated(run, capsys):
  code, out, _ = call('export', run, '--to=int8', capsys=capsys)
  assert code == 0 and 'times smaller' in out
  table = {line.split()[0]: line.split() for line in out.splitlines()[2:]}
  assert float(table['nll'][3]) == pytest.approx(
    float(table['nll'][2]) - float(table['nll'][1]), abs=1e-3
  )
  assert '±' in table['ms_per_example']
  student = export.load(run / 'student-int8')
  assert student.spec['weights'] == {'form': 'int8'} and student.calibration.test['examples'] == 60
  assert '| student (int8) |' in student.card


def test_without_its_data_a_variant_is_not_measured(run, tmp_path, capsys):
  model = export.load(run / 'student')
  spec = {**model.spec, 'data': 'nowhere.npz'}
  type(model)(spec, model.student, model.variables).save(tmp_path / 'student')
  code, out, err = call('export', tmp_path, '--to=bfloat16', capsys=capsys)
  assert code == 0 and 'not measured, and without calibration' in err and 'smaller' in out
  with pytest.raises(ValueError, match='without a calibration'):
    export.load(tmp_path / 'student-bfloat16').predict_set(np.zeros((1, 8, 8, 1), np.float32))


def test_no_other_folder_is_written_into(run, tmp_path, capsys):
  (tmp_path / 'README.md').write_text('mine')
  code, _, err = call('export', run, '--to=int8', f'--out={tmp_path}', capsys=capsys)
  assert code == 2 and 'holds something else' in err
  assert (tmp_path / 'README.md').read_text() == 'mine' and len(list(tmp_path.iterdir())) == 1


def test_no_other_student_is_replaced(run, tmp_path, capsys):
  shutil.copytree(run / 'student', tmp_path / 'other')
  before = (tmp_path / 'other' / 'config.json').read_bytes()
  code, _, err = call('export', run, '--to=int8', f'--out={tmp_path / "other"}', capsys=capsys)
  assert code == 2 and 'something else than a student with smaller weights' in err
  (tmp_path / 'file').write_text('mine')
  code, _, err = call('export', run, '--to=int8', f'--out={tmp_path / "file"}', capsys=capsys)
  assert code == 2 and 'file holds something else' in err
  assert (tmp_path / 'other' / 'config.json').read_bytes() == before


def test_a_file_lies_beside_the_student(run, capsys):
  code, out, err = call('export', run, '--to=stablehlo', capsys=capsys)
  assert (code, err) == (0, '')
  path = run / 'student.stablehlo'
  assert out.startswith(f'{path}: {path.stat().st_size:,} bytes, takes any number of examples\n')
  table = {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:]}
  assert list(table) == ['probabilities', 'total', 'data', 'knowledge']
  assert max(float(value) for row in table.values() for value in row) < 1e-5
  record = json.loads((run / 'student.stablehlo.json').read_text())
  assert record['parity']['test']['examples'] == 60
  x = data.load('digits', limit=60).test.x
  found = load_stablehlo(path)(x)['probabilities']
  np.testing.assert_allclose(found, export.load(run / 'student').predict(x).probs, atol=1e-5)


def test_a_fixed_batch_and_another_place(run, tmp_path, capsys):
  path = tmp_path / 'new' / 'digits.stablehlo'
  flags = '--to=stablehlo', f'--out={path}', '--batch_size=8'
  code, out, _ = call('export', run, *flags, capsys=capsys)
  assert code == 0 and 'takes batches of 8' in out
  assert load_stablehlo(path).description['batch'] == 8


def test_without_its_data_a_file_is_compared_on_random_inputs(run, tmp_path, capsys):
  model = export.load(run / 'student')
  spec = {**model.spec, 'data': 'nowhere.npz'}
  type(model)(spec, model.student, model.variables).save(tmp_path / 'student')
  code, out, err = call('export', tmp_path, '--to=stablehlo', capsys=capsys)
  assert code == 0 and 'compared on random inputs alone: ' in err and err.count('\n') == 1
  assert '256 random inputs' in out and 'test inputs' not in out
  flags = '--to=stablehlo', '--data=elsewhere.npz'
  code, _, err = call('export', tmp_path, *flags, capsys=capsys)
  assert code == 1 and err.count('\n') == 1


def test_a_file_that_differs_is_not_written(run, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(parity, 'LIMIT', -1.0)
  path = tmp_path / 'a.stablehlo'
  code, out, err = call('export', run, '--to=stablehlo', f'--out={path}', capsys=capsys)
  assert code == 1 and not out and err.count('\n') == 1
  assert f'{path} is not written: output' in err and "from the student's on" in err
  assert not list(tmp_path.iterdir())


def test_wrong_usage(run, tmp_path, capsys, monkeypatch):
  def refused(*flags, code=2):
    found, out, err = call('export', *flags, capsys=capsys)
    assert (found, out, err.count('\n')) == (code, '', 1), err
    return err

  assert 'known: ' in refused(run, '--to=int4') and "'int8'" in refused(run, '--to=int7')
  assert '--to' in refused(run)
  assert '--batch_size=0' in refused(run, '--to=onnx', '--batch_size=0')
  assert 'has no effect on --to=int8' in refused(run, '--to=int8', '--batch_size=2')
  assert 'the student itself' in refused(run, '--to=int8', f'--out={run / "student"}')
  assert 'is a folder' in refused(run, '--to=stablehlo', f'--out={tmp_path}', code=1)
  inside = f'--out={run / "student" / "model.stablehlo"}'
  assert "in a student's folder" in refused(run, '--to=stablehlo', inside, code=1)
  refused(run / 'nowhere', '--to=int8', code=1)
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  assert 'pip install "ensdistill[onnx]"' in refused(run, '--to=onnx', code=1)


class Client:
  """A hub that remembers what it is asked."""

  def __init__(self, error=None):
    self.calls, self.error = [], error

  def create_repo(self, repository, **settings):
    self.calls.append((repository, settings))
    if self.error:
      raise self.error
    return types.SimpleNamespace(repo_id=f'me/{repository}')

  def upload_folder(self, **settings):
    self.calls.append(settings)


def test_push_uploads_the_student_and_its_card(run, capsys, monkeypatch):
  client = Client()
  hub = types.SimpleNamespace(HfApi=lambda: client)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  code, out, _ = call('push', run, 'digits', capsys=capsys)
  assert code == 0 and out == 'https://huggingface.co/me/digits\n'
  (repository, made), uploaded = client.calls
  assert repository == 'digits' and made['private'] and made['exist_ok']
  assert uploaded['repo_id'] == 'me/digits'
  assert uploaded['folder_path'] == str(run / 'student')
  present = {path.name for path in (run / 'student').iterdir()}
  assert set(uploaded['allow_patterns']) == set(push.FILES) == present
  call('push', run, 'digits', '--public', capsys=capsys)
  assert client.calls[2][1]['private'] is False


def test_what_push_refuses(run, capsys, monkeypatch):
  hub = types.SimpleNamespace(HfApi=lambda: Client(RuntimeError('401\nno token')))
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  code, _, err = call('push', run, 'digits', capsys=capsys)
  assert code == 1 and err == 'ensdistill: digits: 401 no token\n'
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  code, _, err = call('push', run, 'digits', capsys=capsys)
  assert code == 1 and 'pip install "ensdistill[hub]"' in err
  assert call('push', run / 'nowhere', 'digits', capsys=capsys)[0] == 1
