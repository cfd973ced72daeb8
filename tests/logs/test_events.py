"""Pictures, texts and hyper-parameters come back from TensorBoard's event files."""

import io

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.hparams import metadata as hparams_metadata

from ensdistill.logs import events


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_images_come_back(writer, tmp_path, channels, reader):
  picture = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
  writer.image('inputs/clean', jnp.asarray(picture), 4)
  (event,) = reader.events(tmp_path).Images('test/inputs/clean')
  assert (event.step, event.height, event.width) == (4, 5, 7)
  seen = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
  np.testing.assert_array_equal(seen.reshape(picture.shape), picture)


@pytest.mark.parametrize(
  'array', [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8)]
)
def test_what_is_no_picture_is_refused(writer, array):
  with pytest.raises(ValueError, match='x is .*: a picture must be uint8'):
    writer.image('x', array)


def test_text_comes_back(writer, tmp_path, reader):
  writer.text('table', '| ä | b |', stage='student')
  (event,) = reader.events(tmp_path).Tensors('student/table')
  assert event.tensor_proto.string_val[0].decode() == '| ä | b |'


def test_hyperparameters_and_final_metrics_come_back(writer, tmp_path, reader):
  config = ml_collections.ConfigDict(
    {'student': {'kind': 'single', 'members': 4}, 'rate': 0.1, 'flip': False, 'shape': (8, 8)}
  )
  config.nothing = None
  writer.hparams({'old': 1}, {'old': 1.0})
  writer.hparams(config, {'student/acc': jnp.float32(0.5), 'ensemble-4/nll': 0.25, 'none': None})
  found = reader.events(tmp_path)
  assert found.Tags()['scalars'] == ['test/student/acc', 'test/ensemble-4/nll']
  assert found.Scalars('test/student/acc')[0].value == 0.5
  content = found.SummaryMetadata(hparams_metadata.SESSION_START_INFO_TAG).plugin_data.content
  start = hparams_metadata.parse_session_start_info_plugin_data(content)
  seen = {name: getattr(v, v.WhichOneof('kind')) for name, v in start.hparams.items()}
  wanted = {'student.kind': 'single', 'student.members': 4, 'rate': 0.1, 'flip': False}
  assert seen == wanted | {'shape': '(8, 8)', 'nothing': 'None'}
  content = found.SummaryMetadata(hparams_metadata.SESSION_END_INFO_TAG).plugin_data.content
  end = hparams_metadata.parse_session_end_info_plugin_data(content)
  assert end.status == 1 and end.end_time_secs >= start.start_time_secs


def test_columns_of_hyperparameters_are_ordered(writer, tmp_path, reader):
  """Changed settings and main metrics come first, and curves are no columns."""
  writer.scalars(1, {'loss': 1.0}, stage='student')
  settings = {'a': 1.0, 'name': 'kd', 'zeta': {'rate': 0.1, 'flip': True}}
  columns = events.Columns({'zeta.rate'}, ['acc', 'rmse'])
  writer.hparams(settings, {'nll': 0.1, 'acc': 0.9}, columns)
  content = reader.events(tmp_path).SummaryMetadata(hparams_metadata.EXPERIMENT_TAG)
  found = hparams_metadata.parse_experiment_plugin_data(content.plugin_data.content)
  shown = sorted(found.hparam_infos, key=lambda info: (not info.differs, info.name))
  assert [info.name for info in shown] == ['zeta.rate', 'a', 'name', 'zeta.flip']
  assert [info.name.tag for info in found.metric_infos] == ['test/nll', 'test/acc', 'test/rmse']


def test_what_is_kept_of_files_is_one_file(tmp_path):
  """Also of files that are cut off, and of runs that had a folder for each stage."""
  for stage in ('teacher', 'student'):
    (tmp_path / stage).mkdir()
    with open(tmp_path / stage / events.file_name(), 'wb') as file:
      written = events.Events(file)
      for step in (1, 2, 3):
        written.summary(step, [events.scalar(f'{stage}/loss', step), events.scalar('a', 0.5)])
    content = events.files(tmp_path / stage)[0].read_bytes()
    events.files(tmp_path / stage)[0].write_bytes(content[: -5 if stage == 'student' else None])
  kept = events.kept(tmp_path, lambda tag, step: tag != 'a' and (tag[0] != 's' or step < 2))
  (tmp_path / 'one').mkdir()
  (tmp_path / 'one' / events.file_name()).write_bytes(kept)
  found = set(events.times(tmp_path / 'one'))
  assert found == {
    ('teacher/loss', 1),
    ('teacher/loss', 2),
    ('teacher/loss', 3),
    ('student/loss', 1),
  }
