"""Trackers see what TensorBoard sees, once, and never stop a run."""

import json
import sqlite3
import threading
import time

import numpy as np
import pytest

from ensdistill.logs import sinks, trackers, writers

STEPS = range(1, 5)


class Recorder:
  """A tracker that keeps what it is told in a file of the run's folder."""

  def __init__(self, run):
    self.id, self.run = run.id or 'first', run
    self.note('start', run.name, run.id, run.settings)

  def note(self, *entry):
    with open(f'{self.run.folder}/recorded.jsonl', 'a') as file:
      file.write(json.dumps(entry) + '\n')

  def scalars(self, step, values, stage):
    self.note('scalars', step, values, stage)

  def text(self, name, text, step):
    self.note('text', name, text, step)

  def image(self, name, array_HWC, step):
    self.note('image', name, array_HWC.shape, step)

  def hparams(self, settings, metrics):
    self.note('hparams', settings, metrics)

  def close(self):
    self.note('close')


def recorded(folder):
  return [json.loads(line) for line in (folder / 'recorded.jsonl').read_text().splitlines()]


def open_writer(folder, maker=Recorder, **settings):
  about = {'name': 'run', 'settings': {'teacher': {'members': 2}, 'seed': 0}}
  return writers.Writer(folder, trackers={'own': maker}, **about | {'quiet': True} | settings)


def report(writer):
  writer.image('report/plane', np.zeros((4, 5, 3), np.uint8))
  writer.text('report/table', '| a |')
  writer.hparams({'seed': 0}, {'acc': 90.0, 'nll': float('nan'), 'none': None})


def test_a_tracker_sees_everything_in_order(tmp_path):
  with open_writer(tmp_path) as writer:
    writer.scalars(3, {'loss': np.float32(0.1), 'nan': float('nan')}, stage='teacher')
    report(writer)
  assert recorded(tmp_path) == [
    ['start', 'run', None, {'teacher.members': 2, 'seed': 0}],
    ['scalars', 3, {'loss': 0.1}, 'teacher'],
    ['image', 'report/plane', [4, 5, 3], 0],
    ['text', 'report/table', '| a |', 0],
    ['hparams', {'seed': 0}, {'acc': 90.0}],
    ['close'],
  ]


def interrupted(folder, maker=Recorder, **settings):
  """Log steps 1 to 3, and go on from a checkpoint after step 1 in a second process."""
  with open_writer(folder, maker, **settings) as writer:
    for step in (1, 2, 3):
      writer.scalars(step, {'loss': 1 / step}, stage='student')
  with open_writer(folder, maker, **settings) as writer:
    writer.resume('student', 1)
    for step in (2, 3, 4):
      writer.scalars(step, {'loss': 1 / step}, stage='student')
    report(writer)


def test_a_continued_run_keeps_its_id_and_repeats_no_step(tmp_path, reader):
  interrupted(tmp_path)
  found = recorded(tmp_path)
  assert [entry[2] for entry in found if entry[0] == 'start'] == [None, 'first']
  assert [entry[1] for entry in found if entry[0] == 'scalars'] == list(STEPS)
  assert [line['step'] for line in reader.lines(tmp_path)] == list(STEPS)


def test_a_tracker_that_is_added_later_gets_what_follows(tmp_path):
  with writers.Writer(tmp_path, quiet=True) as writer:
    writer.scalars(5, {'loss': 1.0}, stage='student')
  with open_writer(tmp_path) as writer:
    writer.resume('student', 0)
    writer.scalars(4, {'loss': 1.0}, stage='student')
  assert [entry[1] for entry in recorded(tmp_path) if entry[0] == 'scalars'] == [4]


class Broken(Recorder):
  def scalars(self, step, values, stage):
    if step == 2:
      raise ConnectionError('no route to host\nsecond line')
    super().scalars(step, values, stage)


def refuses(run):
  raise SystemExit('not logged in')


@pytest.mark.parametrize(
  'maker, reason', [(Broken, 'ConnectionError: no route'), (refuses, 'SystemExit: not logged in')]
)
def test_a_tracker_that_fails_is_switched_off_with_one_line(
  tmp_path, reader, capsys, maker, reason
):
  with open_writer(tmp_path, maker, quiet=False) as writer:
    for step in STEPS:
      writer.scalars(step, {'loss': 1.0}, stage='student')
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and lines[0].startswith('warning: the tracker own is switched off')
  assert reason in lines[0] and 'second line' not in lines[0]
  assert len(reader.lines(tmp_path)) == len(STEPS)


def test_a_tracker_that_hangs_holds_nobody(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(sinks, '_SECONDS', 0.1)
  release = threading.Event()

  class Hangs(Recorder):
    def close(self):
      release.wait()

  with open_writer(tmp_path, Hangs, quiet=False) as writer:
    writer.scalars(1, {'loss': 1.0}, stage='student')
  release.set()
  assert 'does not end within 0.1 seconds' in capsys.readouterr().err


def test_a_tracker_with_too_many_waiting_calls_is_closed(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(sinks, '_WAITING', 2)
  release = threading.Event()

  class Slow(Recorder):
    def scalars(self, step, values, stage):
      release.wait()
      super().scalars(step, values, stage)

  with open_writer(tmp_path, Slow, quiet=False) as writer:
    for step in range(1, 9):
      writer.scalars(step, {'loss': 1.0}, stage='student')
    release.set()
  found = [entry[:2] for entry in recorded(tmp_path)]
  assert found in ([['start', 'run'], ['scalars', 1], ['close']], [['start', 'run'], ['close']])
  assert capsys.readouterr().err.count('switched off for this run (more than 2 calls wait)') == 1


def test_names_of_trackers(tmp_path, monkeypatch):
  path = tmp_path / 'mine.py'
  path.write_text(
    'class Half:\n  def scalars(self): pass\n\nnumber = 3\n\n'
    'class Whole(Half):\n  text = image = hparams = close = Half.scalars\n'
  )
  assert sinks.chosen(None) == {} == sinks.chosen('')
  assert list(sinks.chosen(f'{path}:Whole')) == [f'{path}:Whole']
  monkeypatch.setitem(sinks.SINKS, 'recorder', Recorder)
  assert sinks.chosen('recorder') == {'recorder': Recorder}
  monkeypatch.setattr(sinks.importlib.util, 'find_spec', lambda name: None)
  for text, message in (
    ('wandbb', "unknown tracker 'wandbb': did you mean 'wandb'?.*module:Class"),
    ('recorder,mlflow', r"mlflow is not installed; pip install 'ensdistill\[mlflow\]'"),
    (f'{path}:Half', 'the class lacks text, image, hparams, close'),
    (f'{path}:number', 'is a int, not a class'),
    (f'{path}:other', "has no 'other'"),
  ):
    with pytest.raises(ValueError, match=message) as error:
      sinks.chosen(text)
    assert '\n' not in str(error.value)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('store', ['file:{}/mlruns', 'sqlite:///{}/mlflow.db'])
def test_mlflow(tmp_path, monkeypatch, capsys, store):
  mlflow = pytest.importorskip('mlflow')
  monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
  monkeypatch.setenv('MLFLOW_TRACKING_URI', store.format(tmp_path))
  monkeypatch.chdir(tmp_path)  # artifacts of a database lie in ./mlruns
  interrupted(tmp_path / 'run', sinks.SINKS['mlflow'], quiet=False)
  assert 'warning' not in capsys.readouterr().err
  client = mlflow.MlflowClient(store.format(tmp_path))
  (run,) = client.search_runs([client.get_experiment_by_name('ensdistill').experiment_id])
  assert (run.info.run_name, run.info.status) == ('run', 'FINISHED')
  assert run.data.params == {'teacher.members': '2', 'seed': '0'}
  history = client.get_metric_history(run.info.run_id, 'student/loss')
  assert [(metric.step, metric.value) for metric in history] == [(s, 1 / s) for s in STEPS]
  assert run.data.metrics['final/acc'] == 90
  assert {file.path for file in client.list_artifacts(run.info.run_id, 'report')} == {
    'report/plane.png',
    'report/table.md',
  }


@pytest.mark.filterwarnings('ignore')
def test_wandb_offline(tmp_path, monkeypatch, capsys):
  pytest.importorskip('wandb')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  interrupted(tmp_path, sinks.SINKS['wandb'], quiet=False)
  assert 'warning' not in capsys.readouterr().err
  ids = json.loads((tmp_path / 'sinks.json').read_text())
  files = list(tmp_path.glob('wandb/offline-run-*/*.wandb'))
  assert len(files) == 2 and all(ids['own'] in file.name for file in files)
  words = (b'student/loss', b'final/acc', b'teacher.members', b'report/plane')
  for _ in range(100):  # a process of W&B writes the files
    content = b''.join(file.read_bytes() for file in files)
    if all(word in content for word in words):
      return
    time.sleep(0.1)
  raise AssertionError([word for word in words if word not in content])


@pytest.mark.filterwarnings('ignore')
def test_trackio(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('TRACKIO_DIR', str(tmp_path / 'trackio'))  # read when it is imported
  pytest.importorskip('trackio')
  interrupted(tmp_path, sinks.SINKS['trackio'], quiet=False)
  assert 'warning' not in capsys.readouterr().err
  database = sqlite3.connect(next((tmp_path / 'trackio').glob('*.db')))
  rows = [json.loads(row) for (row,) in database.execute('SELECT metrics FROM metrics')]
  curve = {row['student/step']: row['student/loss'] for row in rows if 'student/loss' in row}
  assert curve == {step: 1 / step for step in STEPS}
  assert [row['final/acc'] for row in rows if 'final/acc' in row] == [90]


class Client:
  """Notes how a run of MLflow ends."""

  status = None

  def set_terminated(self, id, status=None):
    self.status = status

  def log_batch(self, id, **values):
    pass


@pytest.mark.parametrize('finished, status', [(True, 'FINISHED'), (False, 'FAILED')])
def test_mlflow_calls_a_run_without_final_metrics_failed(finished, status, monkeypatch):
  client = Client()
  run = object.__new__(trackers.Mlflow)
  run.id, run._client, run._params, run._finished = 'one', client, set(), False
  monkeypatch.setattr(run, '_settings', lambda settings: None)
  if finished:
    run.hparams({}, {})
  run.close()
  assert client.status == status
