"""`ensdistill export` and `ensdistill push`: folders that are read back, and a fake client."""

import sys
import types

import numpy as np
import pytest
import tiny

from ensdistill import cli, data, export
from ensdistill.commands import push


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
  assert code == 2 and 'holds other files' in err
  assert (tmp_path / 'README.md').read_text() == 'mine' and len(list(tmp_path.iterdir())) == 1


def test_wrong_usage(run, capsys):
  assert call('export', run, '--to=int4', capsys=capsys)[0] == 2
  assert call('export', run, capsys=capsys)[0] == 2
  out = run / 'student'
  assert call('export', run, '--to=int8', f'--out={out}', capsys=capsys)[0] == 2
  assert call('export', run / 'nowhere', '--to=int8', capsys=capsys)[0] == 1


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
