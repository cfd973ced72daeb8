"""Writers leave metrics.jsonl and TensorBoard's curves, also of resumed runs."""

import inspect
import io
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensdistill.logs import writers


def test_scalars_of_every_kind_reach_both_files(writer, tmp_path, reader):
  values = {
    'python': 0.25,
    'numpy': np.float32(0.1),
    'jax': jnp.float32(0.5),
    'one': np.array([3.0]),
    'bfloat16': jnp.bfloat16(1.5),
    'count': np.int32(7),
    'double': np.float64(0.1),
    'flag': True,
  }
  writer.scalars(np.int64(3), values, stage='teacher')
  line = {'stage': 'teacher', 'step': 3, 'python': 0.25, 'numpy': 0.1, 'jax': 0.5, 'one': 3.0}
  assert reader.lines(tmp_path) == [
    line | {'bfloat16': 1.5, 'count': 7, 'double': 0.1, 'flag': True}
  ]
  assert isinstance(reader.lines(tmp_path)[0]['count'], int)
  for name, value in values.items():
    (step, seen), *more = reader.curve(tmp_path, f'teacher/{name}')
    assert step == 3 and np.float32(seen) == np.float32(np.asarray(value).item()) and not more


def test_float32_survives_its_short_decimal_form():
  values = np.random.default_rng(0).normal(size=1000).astype(np.float32) ** 9
  assert all(np.float32(writers.number(value)) == value for value in values)


def test_what_is_not_finite_is_null_in_json_and_itself_in_tensorboard(writer, tmp_path, reader):
  writer.scalars(1, {'nan': float('nan'), 'inf': np.float32(np.inf), 'low': -np.inf}, stage='s')
  text = (tmp_path / 'metrics.jsonl').read_text()
  assert text == '{"stage": "s", "step": 1, "nan": null, "inf": null, "low": null}\n'
  assert np.isnan(reader.curve(tmp_path, 's/nan')[0][1])
  assert reader.curve(tmp_path, 's/low') == [(1, -np.inf)]


def test_a_vector_is_no_scalar(writer):
  with pytest.raises(ValueError, match=r'one value.*\(2,\)'):
    writer.scalars(1, {'loss': np.zeros(2)}, stage='s')


def test_device_arrays_are_fetched_explicitly(writer):
  value = jnp.float32(1) + 1
  with jax.transfer_guard('disallow'):
    writer.scalars(1, {'loss': value}, stage='s')


def test_what_was_written_needs_no_close(writer, tmp_path, reader):
  writer.scalars(1, {'loss': 1.0}, stage='s')  # a kill may follow at once
  assert len(reader.lines(tmp_path)) == 1
  assert reader.curve(tmp_path, 's/loss') == [(1, 1.0)]


def train(writer, stage, start, stop):
  for step in range(start + 1, stop + 1):
    writer.scalars(step, {'loss': 1 / step}, stage=stage)


def test_a_killed_and_resumed_run_leaves_what_an_uninterrupted_one_does(tmp_path, reader):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  with writers.Writer(whole, quiet=True) as writer:
    train(writer, 'teacher', 0, 6)
    train(writer, 'student', 0, 6)
  for stage, done in ('teacher', 3), ('student', 4):
    first = writers.Writer(killed, quiet=True)
    train(first, stage, 0, done + 2)
    first.close()
    with open(killed / 'metrics.jsonl', 'a') as file:
      file.write('{"stage": "teach')  # cut off by the kill
    with writers.Writer(killed, quiet=True) as second:
      second.resume(stage, done)
      train(second, stage, done, 6)
  assert (killed / 'metrics.jsonl').read_text() == (whole / 'metrics.jsonl').read_text()
  for stage in 'teacher', 'student':
    wanted = reader.curve(whole, f'{stage}/loss')
    assert [step for step, _ in wanted] == [1, 2, 3, 4, 5, 6]
    assert reader.curve(killed, f'{stage}/loss') == wanted


def test_a_stage_that_begins_again_forgets_everything(writer, tmp_path, reader):
  train(writer, 'teacher', 0, 2)
  train(writer, 'student', 0, 3)
  writer.resume('student', 0)
  assert [line['stage'] for line in reader.lines(tmp_path)] == ['teacher'] * 2
  train(writer, 'student', 0, 1)
  assert reader.curve(tmp_path, 'student/loss') == [(1, 1.0)]
  assert len(reader.curve(tmp_path, 'teacher/loss')) == 2


def test_resuming_a_stage_that_never_ran_writes_nothing(writer, tmp_path):
  writer.resume('student', 0)
  assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_is_skipped_with_a_warning(tmp_path):
  good = '{"stage": "s", "step": 1, "loss": 1.0}\n'
  damaged = ('\0\0\0', '[1]', '{"stage": "s"}', '{"stage": "s", "step": "1"}', '{"step": 1}')
  path, stream = tmp_path / 'metrics.jsonl', io.StringIO()
  path.write_text(good + '\n'.join(damaged) + '\n' + good + '{"sta')
  with writers.Writer(tmp_path, stream=stream) as writer:
    writer.resume('s', 1)
  assert path.read_text() == good * 2
  assert stream.getvalue() == f'warning: {path}: line 2 and 4 more damaged: skipped\n'


def test_a_line_that_a_kill_cut_off_is_dropped_without_a_warning(tmp_path):
  stream = io.StringIO()
  (tmp_path / 'metrics.jsonl').write_text('{"sta')
  writers.Writer(tmp_path, stream=stream).close()
  assert (tmp_path / 'metrics.jsonl').read_text() == '' == stream.getvalue()


def test_a_pipe_in_place_of_the_metrics_is_refused(tmp_path):
  os.mkfifo(tmp_path / 'metrics.jsonl')
  with pytest.raises(OSError, match='not a regular file'):
    writers.Writer(tmp_path, quiet=True)


def test_the_silent_writer_has_the_same_methods(tmp_path, capfd, monkeypatch):
  monkeypatch.chdir(tmp_path)

  def public(kind):
    return {
      name: inspect.signature(method)
      for name, method in vars(kind).items()
      if callable(method) and not name.startswith('_')
    }

  assert issubclass(writers.Writer, writers.Silent)
  assert public(writers.Silent) == public(writers.Writer)
  with writers.Silent() as writer:
    writer.scalars(1, {'loss': 1.0}, stage='s')
    writer.hparams({}, {})
    progress = writer.progress('s', 2, examples_per_step=1)
    progress.update(2, {'loss': 1.0})
    progress.close()
    writer.line('unseen')
  assert capfd.readouterr() == ('', '') and list(tmp_path.iterdir()) == []


EVERYTHING = """
import sys
sys.path.insert(0, sys.argv[1])  # a TensorFlow that must not be imported
from ensdistill.logs import writers
slow = {'jax', 'tensorboard', 'tqdm', 'PIL'} & set(sys.modules)
assert not slow, slow
import numpy as np
with writers.Writer(sys.argv[2]) as writer:
  writer.scalars(1, {'loss': 1.}, stage='s')
  writer.image('a', np.zeros((4, 4, 3), np.uint8))
  writer.text('b', 'c')
  writer.hparams({'a': 1}, {'b': 1.})
  writer.progress('s', 2, examples_per_step=1).update(2)
assert 'tensorflow' not in sys.modules
"""


def test_tensorflow_is_never_imported_and_nothing_slow_at_the_start(tmp_path):
  fake = tmp_path / 'path' / 'tensorflow'
  fake.mkdir(parents=True)
  (fake / '__init__.py').write_text('raise SystemExit("TensorFlow was imported")')
  command = [sys.executable, '-c', EVERYTHING, str(fake.parent), str(tmp_path / 'run')]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
