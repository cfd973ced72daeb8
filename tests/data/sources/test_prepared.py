"""Sets prepared by TFDS, read without TensorFlow; the tests write the folders themselves."""

import dataclasses
import io
import json
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tiny

from ensdistill import data
from ensdistill.data.images import decode
from ensdistill.data.sources import records
from ensdistill.evaluation import sets

pytest.importorskip('array_record')
IMAGE, LABEL, TEXT = (
  f'tensorflow_datasets.core.features.{kind}'
  for kind in ('image_feature.Image', 'class_label_feature.ClassLabel', 'text_feature.Text')
)


def png(image):
  buffer = io.BytesIO()
  PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, 'PNG')
  return buffer.getvalue()


def write(folder, splits, *, name='tiny', version='1.0.0', ids=None, shape=(5, 4, 3), classes=2):
  """Write a TFDS folder of {split: (images, labels or None)} with two shards per split."""
  from array_record.python.array_record_module import ArrayRecordWriter
  from tensorflow_datasets.proto import tf_example_pb2

  folder = folder / name / version
  folder.mkdir(parents=True)
  described = []
  for split, (images, labels) in splits.items():
    cut = len(images) // 3
    for shard, rows in enumerate((range(cut), range(cut, len(images)))):
      file = folder / f'{name.partition("/")[0]}-{split}.array_record-{shard:05d}-of-00002'
      writer = ArrayRecordWriter(str(file), 'group_size:1')
      for i in rows:
        example = tf_example_pb2.Example()
        feature = example.features.feature
        encoded = images[i] if isinstance(images[i], bytes) else png(images[i])
        feature['image'].bytes_list.value.append(encoded)
        if labels is not None:
          feature['label'].int64_list.value.append(labels[i])
        if ids:
          feature['id'].bytes_list.value.append(ids[split][i].encode())
        writer.write(example.SerializeToString())
      writer.close()
    described.append(
      {
        'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
        'name': split,
        'numBytes': '1',
        'shardLengths': [str(cut), str(len(images) - cut)],
      }
    )
  dimensions = [str(n) for n in shape]
  features = {
    'image': {
      'image': {'dtype': 'uint8', 'shape': {'dimensions': dimensions}},
      'pythonClassName': IMAGE,
    }
  }
  if labels is not None:
    features['label'] = {'classLabel': {'numClasses': str(classes)}, 'pythonClassName': LABEL}
  if ids:
    features['id'] = {'text': {}, 'pythonClassName': TEXT}
  info = {
    'fileFormat': 'array_record',
    'name': name.partition('/')[0],
    'splits': described,
    'version': version,
  }
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  top = 'tensorflow_datasets.core.features.features_dict.FeaturesDict'
  (folder / 'features.json').write_text(
    json.dumps({'featuresDict': {'features': features}, 'pythonClassName': top})
  )
  return folder


def drawn(size, shape=(5, 4, 3), seed=0):
  random = np.random.RandomState(seed)
  return random.randint(0, 256, (size, *shape), dtype=np.uint8), np.arange(size) % 2


@pytest.fixture
def splits():
  return {'train': drawn(20), 'test': drawn(10, seed=1)}


def test_reads_what_was_written(tmp_path, splits):
  folder = write(tmp_path, splits)
  assert data.load('tiny', dir=str(tmp_path)).classes is None
  (folder / 'label.labels.txt').write_text('cat\nsea lion\n')
  for name in ('tfds:tiny', 'tiny', 'tfds:tiny:1.0.0'):
    loaded = data.load(name, dir=str(tmp_path))
    np.testing.assert_array_equal(loaded.test.x, splits['test'][0])
    np.testing.assert_array_equal(loaded.test.y, splits['test'][1])
    assert len(loaded.train.x) == 18 and len(loaded.valid.x) == 2 and loaded.targets == 2
    assert loaded.classes == ('cat', 'sea lion')
  np.savez(tmp_path / 'tiny.npz', x_train=splits['train'][0], y_train=splits['train'][1],
           x_test=splits['test'][0], y_test=splits['test'][1])  # fmt: skip
  assert data.load('npz:tiny.npz', dir=str(tmp_path)).fingerprint == loaded.fingerprint


def test_grey_images_and_a_validation_split(tmp_path):
  shape = (6, 6, 1)
  splits = {part: drawn(6, shape, i) for i, part in enumerate(('train', 'validation', 'test'))}
  write(tmp_path, splits, shape=shape)
  loaded = data.load('tiny', dir=str(tmp_path))
  assert loaded.shape == shape
  np.testing.assert_array_equal(loaded.train.x, splits['train'][0])
  np.testing.assert_array_equal(loaded.valid.x, splits['validation'][0])
  del splits['test']
  write(tmp_path, splits, shape=shape, name='untested')
  loaded = data.load('untested', dir=str(tmp_path))
  np.testing.assert_array_equal(loaded.test.x, splits['validation'][0])
  assert len(loaded.train.x) == 5


@pytest.mark.parametrize('settings', [{}, {'size': 4}])
def test_test_images_without_labels(tmp_path, splits, settings):
  x, y = splits['test']
  unpublished = {'test': (x, np.full(len(x), -1))}
  validation = drawn(8, seed=2)
  write(tmp_path, {'train': splits['train'], 'validation': validation, **unpublished}, name='held')
  loaded = data.load('held', dir=str(tmp_path), **settings)
  np.testing.assert_array_equal(loaded.test.y, validation[1])
  assert len(loaded.train.x) == 18 and len(loaded.valid.x) == 2  # of the training images
  assert loaded.unused.endswith(
    'the test split has no labels; the validation split is used for testing'
  )
  write(tmp_path, splits | unpublished)
  with pytest.raises(data.DataError, match='tiny/1.0.0 has no labels for its test split'):
    data.load('tiny', dir=str(tmp_path), **settings)
  assert len(data.load_inputs('tiny', dir=str(tmp_path), shape=(5, 4, 3))) == len(x)


def test_the_order_of_ids_is_restored(tmp_path, splits):
  shuffled = {part: np.random.RandomState(2).permutation(len(x)) for part, (x, _) in splits.items()}
  ids = {part: [f'{part}_{i:05d}' for i in order] for part, order in shuffled.items()}
  stored = {part: (x[shuffled[part]], y[shuffled[part]]) for part, (x, y) in splits.items()}
  write(tmp_path, stored, name='cifar10', ids=ids, classes=2)
  loaded = data.load('cifar10', dir=str(tmp_path), valid=5)
  np.testing.assert_array_equal(loaded.train.x, splits['train'][0][:15])
  np.testing.assert_array_equal(loaded.valid.y, splits['train'][1][15:])
  assert loaded.std == (0.2470, 0.2435, 0.2616)


def test_decodes_once_and_again_when_anything_changed(tmp_path, splits, monkeypatch):
  folder = write(tmp_path, splits)
  calls, decode = [], records._decode

  def recorded(folder, split):
    calls.append(split)
    return decode(folder, split)

  monkeypatch.setattr(records, '_decode', recorded)
  first = data.load('tiny', dir=str(tmp_path))
  assert sorted(calls) == ['test', 'train']
  assert data.load('tiny', dir=str(tmp_path)).fingerprint == first.fingerprint
  assert len(calls) == 2 and not list(folder.glob('*.tmp'))
  kept = folder / 'decoded-test.npz'
  content = bytearray(kept.read_bytes())
  content[content.index(b'x.npy') + 300] ^= 1
  kept.write_bytes(content)
  assert data.load('tiny', dir=str(tmp_path)).fingerprint == first.fingerprint
  assert calls[2:] == ['test']
  data.load('tiny', dir=str(tmp_path))
  assert len(calls) == 3
  (folder / 'features.json').write_text((folder / 'features.json').read_text() + ' ')
  data.load('tiny', dir=str(tmp_path))
  assert len(calls) == 5


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path, splits, monkeypatch):
  folder = write(tmp_path, splits)

  def full(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(np, 'savez', full)
  loaded = data.load('tiny', dir=str(tmp_path))
  np.testing.assert_array_equal(loaded.test.x, splits['test'][0])
  assert not [p.name for p in folder.iterdir() if 'decoded' in p.name]


def test_reading_needs_no_tensorflow_and_a_second_time_no_tfds(tmp_path, splits):
  write(tmp_path, splits)
  code = (
    f'import sys; from ensdistill import data; data.load("tiny", dir={str(tmp_path)!r})\n'
    'print([name in sys.modules for name in ("tensorflow", "tensorflow_datasets")])'
  )
  for imported in ('[False, True]', '[False, False]'):
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == imported


def test_the_newest_version_and_named_configs(tmp_path, splits):
  old = {part: (255 - x, y) for part, (x, y) in splits.items()}
  write(tmp_path, old, version='2.0.0')
  write(tmp_path, splits, version='10.0.0')
  write(tmp_path, splits, name='forms/noise_1')

  def inputs(name):
    return data.load_inputs(name, dir=str(tmp_path), shape=(5, 4, 3))

  np.testing.assert_array_equal(inputs('tfds:tiny'), splits['test'][0])
  np.testing.assert_array_equal(inputs('tfds:tiny:2.0.0'), old['test'][0])
  np.testing.assert_array_equal(inputs('tfds:forms/noise_1'), splits['test'][0])
  np.testing.assert_array_equal(inputs('tfds:forms:1.0.0'), splits['test'][0])  # the only one
  write(tmp_path, old, name='forms/noise_2')
  with pytest.raises(
    data.MissingData, match='several configs, choose one: forms/noise_1, forms/noi'
  ):
    inputs('tfds:forms')


def test_a_form_of_lsun_stops_no_evaluation(tmp_path, splits):
  dataset = dataclasses.replace(tiny.dataset(), name='cifar10')
  for form in ('classroom', 'tower'):
    write(tmp_path, splits, name=f'lsun/{form}')
    sets.check(dataset, ood='default', shifts='none', dir=str(tmp_path))
    found = sets.inputs(dataset, 'default', not_run := {}, dir=str(tmp_path))
    if form == 'classroom':  # the only one
      assert found['ood/lsun'].shape == (10, *dataset.shape)
  assert 'choose one: lsun/classroom, lsun/tower' in not_run['ood/lsun'] and 'ood/lsun' not in found


def test_what_one_shape_and_many_are_seen_through(tmp_path, splits):
  write(tmp_path, splits)
  write(tmp_path, splits, name='sizes', shape=(-1, -1, 3))
  ids = {part: [f'{i:05d}' for i in range(len(x))][::-1] for part, (x, _) in splits.items()}
  write(tmp_path, splits, name='ordered', ids=ids)
  whole = data.load('tiny', dir=str(tmp_path))
  for settings in ({'size': 4}, {'size': 4, 'central': 0.5}, {'central': 0.5}):
    one = data.load('tiny', dir=str(tmp_path), **settings)
    assert one.fingerprint != whole.fingerprint
    if 'size' in settings:
      many = data.load('sizes', dir=str(tmp_path), **settings)
      np.testing.assert_array_equal(one.test.x, many.test.x)
    ordered = data.load('ordered', dir=str(tmp_path), **settings)
    np.testing.assert_array_equal(ordered.test.x, one.test.x[::-1])
    np.testing.assert_array_equal(ordered.test.y, one.test.y[::-1])
  grey = {part: (x[..., :1], y) for part, (x, y) in splits.items()}
  write(tmp_path, grey, name='grey', shape=(5, 4, 1))
  assert data.load('grey', dir=str(tmp_path), size=4).shape == (4, 4, 1)
  write(tmp_path, splits, name='wrong', shape=(4, 4, 3))
  with pytest.raises(data.DataError, match='the image has 4 x 5 pixels, others have 4 x 4'):
    data.load('wrong', dir=str(tmp_path), central=0.9)


def test_a_decoders_message_is_not_cut(tmp_path, splits, monkeypatch):
  def broken(encoded):
    raise ValueError('tag <5 of <_io.BytesIO object at 0x7f10> is odd')

  write(tmp_path, splits)
  monkeypatch.setattr(decode, 'opened', broken)
  for settings in ({}, {'size': 4}):
    with pytest.raises(data.DataError, match=r'example \d+ cannot .* image \(tag <5 of is odd\)'):
      data.load('tiny', dir=str(tmp_path), **settings)


def test_an_image_that_cannot_be_read_in_a_set_of_one_shape(tmp_path, splits):
  (x, y), test = splits['train'], splits['test']
  encoded = [png(image) for image in x]
  encoded[2] = b'no image'
  write(tmp_path, {'train': (encoded, y), 'test': test})
  with pytest.raises(data.DataError) as caught:
    data.load('tiny', dir=str(tmp_path))
  assert str(caught.value).endswith(
    'example 2 cannot be read as an image (cannot identify image file): prepare the set again, or '
    "set data.unreadable='skip'"
  )
  loaded = data.load('tiny', dir=str(tmp_path), unreadable='skip', valid=1)
  assert len(loaded.train.x) == 18 and len(loaded.skipped) == 1
  np.testing.assert_array_equal(loaded.test.x, test[0])


def test_random_crops_of_a_set_of_one_shape(tmp_path, splits):
  write(tmp_path, splits)
  cut = data.load('tiny', dir=str(tmp_path), crops=True)
  assert cut.streams and isinstance(cut.train.x, data.stored.Stored)
  streamed = data.load('tiny', dir=str(tmp_path), stream='on')
  assert streamed.streams and isinstance(streamed.train.x, np.ndarray)
  np.testing.assert_array_equal(cut.train.x, streamed.train.x)


def test_images_of_many_sizes_and_without_labels_serve_as_inputs(tmp_path):
  images = [drawn(1, (6 + 2 * i, 8, 3), i)[0][0] for i in range(6)]
  images[0][:] = (50, 100, 200)
  write(tmp_path, {'train': (images, None), 'validation': (images, None)}, shape=(-1, -1, 3))
  inputs = data.load_inputs('tiny', dir=str(tmp_path), shape=(2, 2, 1))
  assert inputs.shape == (6, 2, 2, 1)
  # In grey.
  assert inputs[0].tolist() == [[[96], [96]], [[96], [96]]]
  with pytest.raises(data.DataError, match='tiny/1.0.0 holds images of different sizes'):
    data.load('tiny', dir=str(tmp_path))
  write(tmp_path, {'train': drawn(9)[:1] + (None,), 'test': drawn(9)[:1] + (None,)}, name='bare')
  assert len(data.load_inputs('bare', dir=str(tmp_path), shape=(5, 4, 3))) == 9
  for _ in range(2):
    with pytest.raises(data.DataError, match='no labels for its train split'):
      data.load('bare', dir=str(tmp_path))


def test_a_missing_set_says_which_folder_and_which_command(tmp_path, monkeypatch):
  with pytest.raises(FileNotFoundError) as caught:
    data.load('cifar100', dir=str(tmp_path))
  message = str(caught.value)
  assert f'{tmp_path}/cifar100 holds no version' in message
  assert "pip install 'ensdistill[tf]'" in message
  code = message[message.index('python -c "') + 11 : message.rindex('"')]
  compile(code, 'command', 'exec')
  assert f"tfds.builder('cifar100', data_dir='{tmp_path}')" in code
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'elsewhere'))
  with pytest.raises(data.MissingData, match='elsewhere/mnist'):
    data.load('tfds:mnist')
  with pytest.raises(data.MissingData, match=r'Put notmnist.npz \(x_test, y_test\) into'):
    data.load_inputs('notmnist', shape=(28, 28, 1))


def test_damage_is_named(tmp_path, splits):
  folder = write(tmp_path, splits)
  shard = folder / 'tiny-test.array_record-00001-of-00002'
  good = shard.read_bytes()
  place = good.index(b'IDAT') + 20 if b'IDAT' in good else len(good) // 3
  shard.write_bytes(good[:place] + bytes([good[place] ^ 255]) + good[place + 1 :])
  with pytest.raises(data.DataError, match='1.0.0, split test, example '):
    data.load('tiny', dir=str(tmp_path))
  shard.write_bytes(b'')
  with pytest.raises(data.DataError, match='1.0.0, split test'):
    data.load('tiny', dir=str(tmp_path))
  shard.write_bytes(good)
  data.load('tiny', dir=str(tmp_path))
  info = json.loads((folder / 'dataset_info.json').read_text())
  (folder / 'dataset_info.json').write_text(json.dumps(info | {'fileFormat': 'tfrecord'}))
  with pytest.raises(data.DataError, match='prepared as tfrecord, which only TensorFlow reads'):
    data.load('tiny', dir=str(tmp_path))
  (folder / 'dataset_info.json').write_text('{')
  with pytest.raises(data.DataError, match='dataset_info.json cannot be read'):
    data.load('tiny', dir=str(tmp_path))


def test_labels_beyond_the_stated_classes(tmp_path, splits):
  x, y = splits['test']
  write(tmp_path, splits | {'test': (x, y + 1)})
  with pytest.raises(data.DataError, match=r'y_test\[1\] is 2, but there are 2 classes'):
    data.load('tiny', dir=str(tmp_path))
