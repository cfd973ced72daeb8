"""What a run leaves behind, read back: metrics.jsonl, TensorBoard files, the terminal."""

import inspect
import io
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata

from ensdistill.logs import progress as progress_lib
from ensdistill.logs import writers


@pytest.fixture
def writer(tmp_path):
  with writers.Writer(tmp_path, quiet=True) as writer:
    yield writer


def lines(folder):
  return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def events(folder, run):
  return EventAccumulator(str(folder / 'tb' / run), purge_orphaned_data=True).Reload()


def curve(folder, run, tag):
  return [(event.step, event.value) for event in events(folder, run).Scalars(tag)]


# ---- metrics.jsonl and TensorBoard's scalars


def test_scalars_of_every_kind_reach_both_files(writer, tmp_path):
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
  assert lines(tmp_path) == [line | {'bfloat16': 1.5, 'count': 7, 'double': 0.1, 'flag': True}]
  assert isinstance(lines(tmp_path)[0]['count'], int)
  for name, value in values.items():
    (step, seen), *more = curve(tmp_path, 'teacher', f'teacher/{name}')
    assert step == 3 and np.float32(seen) == np.float32(np.asarray(value).item()) and not more


def test_float32_survives_its_short_decimal_form():
  values = np.random.default_rng(0).normal(size=1000).astype(np.float32) ** 9
  assert all(np.float32(writers.number(value)) == value for value in values)


def test_what_is_not_finite_is_null_in_json_and_itself_in_tensorboard(writer, tmp_path):
  writer.scalars(1, {'nan': float('nan'), 'inf': np.float32(np.inf), 'low': -np.inf}, stage='s')
  text = (tmp_path / 'metrics.jsonl').read_text()
  assert text == '{"stage": "s", "step": 1, "nan": null, "inf": null, "low": null}\n'
  assert np.isnan(curve(tmp_path, 's', 's/nan')[0][1])
  assert curve(tmp_path, 's', 's/low') == [(1, -np.inf)]


def test_a_vector_is_no_scalar(writer):
  with pytest.raises(ValueError, match=r'one value.*\(2,\)'):
    writer.scalars(1, {'loss': np.zeros(2)}, stage='s')


def test_device_arrays_are_fetched_explicitly(writer):
  value = jnp.float32(1) + 1
  with jax.transfer_guard('disallow'):
    writer.scalars(1, {'loss': value}, stage='s')


def test_what_was_written_needs_no_close(writer, tmp_path):
  writer.scalars(1, {'loss': 1.0}, stage='s')  # a kill may follow at once
  assert len(lines(tmp_path)) == 1
  assert curve(tmp_path, 's', 's/loss') == [(1, 1.0)]


# ---- resuming


def train(writer, stage, start, stop):
  for step in range(start + 1, stop + 1):
    writer.scalars(step, {'loss': 1 / step}, stage=stage)


def test_a_killed_and_resumed_run_leaves_what_an_uninterrupted_one_does(tmp_path):
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
    wanted = curve(whole, stage, f'{stage}/loss')
    assert [step for step, _ in wanted] == [1, 2, 3, 4, 5, 6]
    assert curve(killed, stage, f'{stage}/loss') == wanted


def test_a_stage_that_begins_again_forgets_everything(writer, tmp_path):
  train(writer, 'teacher', 0, 2)
  train(writer, 'student', 0, 3)
  writer.resume('student', 0)
  assert [line['stage'] for line in lines(tmp_path)] == ['teacher'] * 2
  train(writer, 'student', 0, 1)
  assert curve(tmp_path, 'student', 'student/loss') == [(1, 1.0)]
  assert len(curve(tmp_path, 'teacher', 'teacher/loss')) == 2


def test_resuming_a_stage_that_never_ran_writes_nothing(writer, tmp_path):
  writer.resume('student', 0)
  assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_is_dropped(tmp_path):
  good = '{"stage": "s", "step": 1, "loss": 1.0}\n'
  (tmp_path / 'metrics.jsonl').write_text(good + '\0\0\0\n' + good + '{"sta')
  writers.Writer(tmp_path, quiet=True).close()
  assert (tmp_path / 'metrics.jsonl').read_text() == good * 2


# ---- pictures, text, hyper-parameters


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_images_come_back(writer, tmp_path, channels):
  picture = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
  writer.image('inputs/clean', jnp.asarray(picture), 4)
  (event,) = events(tmp_path, 'report').Images('inputs/clean')
  assert (event.step, event.height, event.width) == (4, 5, 7)
  seen = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
  np.testing.assert_array_equal(seen.reshape(picture.shape), picture)


@pytest.mark.parametrize(
  'array', [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8)]
)
def test_what_is_no_picture_is_refused(writer, array):
  with pytest.raises(ValueError, match='a picture is uint8'):
    writer.image('x', array)


def test_text_comes_back(writer, tmp_path):
  writer.text('table', '| ä | b |', stage='student')
  (event,) = events(tmp_path, 'student').Tensors('table')
  assert event.tensor_proto.string_val[0].decode() == '| ä | b |'


def test_hyperparameters_and_final_metrics_come_back(writer, tmp_path):
  config = ml_collections.ConfigDict(
    {'student': {'kind': 'single', 'members': 4}, 'rate': 0.1, 'flip': False, 'shape': (8, 8)}
  )
  config.nothing = None
  writer.hparams({'old': 1}, {'old': 1.0})
  writer.hparams(config, {'student/acc': jnp.float32(0.5), 'ensemble-4/nll': 0.25, 'none': None})
  found = events(tmp_path, 'final')
  assert found.Tags()['scalars'] == ['final/ensemble-4/nll', 'final/student/acc']
  assert found.Scalars('final/student/acc')[0].value == 0.5
  content = found.SummaryMetadata(hparams_metadata.SESSION_START_INFO_TAG).plugin_data.content
  start = hparams_metadata.parse_session_start_info_plugin_data(content)
  seen = {name: getattr(v, v.WhichOneof('kind')) for name, v in start.hparams.items()}
  wanted = {'student.kind': 'single', 'student.members': 4, 'rate': 0.1, 'flip': False}
  assert seen == wanted | {'shape': '(8, 8)', 'nothing': 'None'}
  content = found.SummaryMetadata(hparams_metadata.SESSION_END_INFO_TAG).plugin_data.content
  end = hparams_metadata.parse_session_end_info_plugin_data(content)
  assert end.status == 1 and end.end_time_secs >= start.start_time_secs


# ---- the terminal


class Terminal(io.StringIO):
  def isatty(self):
    return True


def advance(progress, clock, seconds_per_step, steps, total):
  for step in range(1, steps + 1):
    clock[0] += seconds_per_step
    progress.update(step, {'loss': np.float32(0.5), 'valid_acc': step / total})
  progress.close()


@pytest.fixture
def clock(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(progress_lib.time, 'monotonic', lambda: now[0])
  return now


def test_a_log_file_gets_twenty_lines_a_stage(tmp_path, clock):
  stream = io.StringIO()
  writer = writers.Writer(tmp_path, stream=stream)
  advance(writer.progress('student', 1000, examples_per_step=64), clock, 0.1, 1000, 1000)
  seen = stream.getvalue()
  assert '\r' not in seen and len(seen.splitlines()) == 20
  assert seen.splitlines()[9] == (
    'student: 500/1000 (50 %), 10 steps/s, 640 examples/s, 0:50 left, loss 0.5, valid_acc 0.5'
  )
  assert seen.splitlines()[-1] == (
    'student: 1000/1000 (100 %), 10 steps/s, 640 examples/s, took 1:40, loss 0.5, valid_acc 1'
  )


def test_a_slow_stage_speaks_every_thirty_seconds(tmp_path, clock):
  stream = io.StringIO()
  writer = writers.Writer(tmp_path, stream=stream)
  advance(writer.progress('s', 10_000, examples_per_step=1), clock, 10.0, 30, 10_000)
  seen = stream.getvalue().splitlines()
  assert [line.split()[1] for line in seen] == [f'{step}/10000' for step in range(3, 31, 3)]
  assert '0.1 steps/s' in seen[1] and '27:45:40 left' in seen[1]


def test_a_quick_stage_says_one_line(tmp_path, clock):
  stream = io.StringIO()
  writer = writers.Writer(tmp_path, stream=stream)
  advance(writer.progress('s', 500, examples_per_step=1), clock, 0.001, 500, 500)
  assert len(stream.getvalue().splitlines()) == 1


def test_a_stage_that_is_done_says_nothing(tmp_path):
  for stream in io.StringIO(), Terminal():
    writer = writers.Writer(tmp_path, stream=stream)
    writer.progress('s', 10, start=10, examples_per_step=1).close()
    assert stream.getvalue() == ''
    writer.line('next')
    assert stream.getvalue() == 'next\n'


def test_the_time_to_compile_is_not_in_the_rate(tmp_path, clock):
  stream = io.StringIO()
  progress = writers.Writer(tmp_path, stream=stream).progress('s', 100, examples_per_step=1)
  clock[0] += 20
  progress.update(1)
  clock[0] += 2
  progress.update(21)
  assert '10 steps/s' in stream.getvalue() and '0:08 left' in stream.getvalue()


def test_a_terminal_gets_a_bar_and_lines_above_it(tmp_path):
  stream = Terminal()
  writer = writers.Writer(tmp_path, stream=stream)
  progress = writer.progress('teacher', 10, start=4, examples_per_step=32)
  progress.update(7, {'loss': 0.125})
  writer.line('a warning')
  progress.update(10, {'loss': 0.0625})
  writer.close()
  seen = stream.getvalue()
  assert '\ra warning\n' in seen or '\r\x1b[Ka warning\n' in seen or ' \ra warning\n' in seen
  last = seen.rstrip('\n').split('\r')[-1]
  assert last.startswith('teacher 100%|') and '10/10' in last and 'loss 0.0625' in last
  assert 'steps/s' in last and 'examples/s' in last
  writer.line('after')
  assert stream.getvalue().endswith('\nafter\n')


def test_quiet_writes_files_and_no_line(tmp_path, capfd):
  with writers.Writer(tmp_path, quiet=True) as writer:
    progress = writer.progress('s', 2, examples_per_step=1)
    progress.update(1, {'loss': 1.0})
    writer.line('unseen')
    writer.scalars(1, {'loss': 1.0}, stage='s')
  assert capfd.readouterr() == ('', '') and len(lines(tmp_path)) == 1


# ---- the null writer, and imports


def test_the_silent_writer_has_the_same_methods(tmp_path, capfd, monkeypatch):
  monkeypatch.chdir(tmp_path)
  public = lambda kind: {
    name: inspect.signature(method)
    for name, method in vars(kind).items()
    if callable(method) and name != '__init__' and (name[0] != '_' or name[1] == '_')
  }
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
