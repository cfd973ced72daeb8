"""Damaged and mislabelled data: errors name the file and the index."""

import re

import numpy as np
import pytest

from ensdistill import data
from ensdistill.data import checks
from ensdistill.data.dataset import Examples


def arrays():
  """Return a correct set of images with three classes."""
  random = np.random.RandomState(0)
  x = random.randint(0, 256, (50, 4, 4, 3), dtype=np.uint8)
  return dict(x_train=x[:40], y_train=np.arange(40) % 3, x_test=x[40:], y_test=np.arange(10) % 3)


def numbers():
  """Return a correct set of tables with a regression target."""
  random = np.random.RandomState(0)
  x, y = random.randn(50, 4), random.randn(50)
  return dict(x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])


def refused(tmp_path, contents, message):
  path = tmp_path / 'set.npz'
  np.savez(path, **{k: v for k, v in contents.items() if v is not None})
  with pytest.raises(data.DataError) as caught:
    data.load(f'npz:{path}')
  text = str(caught.value)
  assert text.startswith(str(path)) and '\n' not in text
  assert re.search(message, text), text


def changed(values, index, value):
  values = values.copy()
  values[index] = value
  return values


def test_the_good_sets_are_good(tmp_path):
  for name, contents in (('images', arrays()), ('numbers', numbers())):
    np.savez(tmp_path / f'{name}.npz', **contents)
    assert len(data.load(f'npz:{tmp_path}/{name}.npz').train.x) == 36


@pytest.mark.parametrize(
  'change, message',
  [
    (
      lambda a: {'y_train': changed(a['y_train'], 7, -1)},
      r'y_train\[7\] is -1: labels count from 0; store y as floats for regression$',
    ),
    (
      lambda a: {'y_test': changed(a['y_test'], 4, 3)},
      r'y_test\[4\] is 3, but the largest label in y_train is 2',
    ),
    (
      lambda a: {'y_test': changed(a['y_test'], 4, 3), 'classes': list('abc')},
      r'y_test\[4\] is 3, but there are 3 classes',
    ),
    (
      lambda a: {'y_train': changed(a['y_train'], 5, 9)},
      r'class 3 of 10 has no training example \(y_train\[5\] is 9.*; store y as floats for',
    ),
    (lambda a: {'classes': list('abcd')}, "class 3 of 4, 'd', has no training example"),
    (lambda a: {'y_train': a['y_train'][:-1]}, 'x_train has 40 examples, y_train has 39'),
    (lambda a: {'y_train': np.eye(3, dtype=int)[a['y_train']]}, r'y_train has shape \(40, 3\)'),
    (lambda a: {'y_train': a['y_train'].astype(str)}, r'y_train holds <U\d+ of shape \(40,\)'),
    (lambda a: {'y_test': a['y_test'] + 0.5}, r'y_test .* and y_train .* differ in kind'),
    (lambda a: {'y_train': None}, 'has no labels for its train split'),
    (lambda a: {'x_train': None}, 'has no train split'),
    (lambda a: {'x_test': None}, 'has no test split'),
    (lambda a: {'x_train': a['x_train'][:0], 'y_train': a['y_train'][:0]}, 'x_train is empty'),
    (
      lambda a: {'x_train': a['x_train'].astype(np.int64)},
      'x_train holds int64: store images as uint8',
    ),
    (
      lambda a: {'x_train': a['x_train'] / 255 * 2},
      r'x_train\[\d+\] holds .*: scale float images to',
    ),
    (
      lambda a: {'x_train': changed(a['x_train'] / 255, (6, 1, 2, 0), np.nan)},
      r'x_train\[6\] holds nan',
    ),
    (
      lambda a: {'x_test': changed(a['x_test'] / 255, (3, 0, 0, 0), -np.inf)},
      r'x_test\[3\] holds -inf',
    ),
    (
      lambda a: {'x_train': a['x_train'].transpose(0, 3, 1, 2).repeat(2, 3)},
      'last axis must hold 1 to 4 chan',
    ),
    (lambda a: {'x_train': a['x_train'][:, 0, 0, 0]}, r'x_train has shape \(40,\)'),
    (lambda a: {'x_test': a['x_test'][:, :3]}, r'x_test have shape \(3, 4, 3\), those of x_train'),
    (lambda a: {'x_train': a['x_train'].astype(str)}, r'x_train holds <U\d, not numbers'),
    (lambda a: dict.fromkeys(a) | {'images': a['x_test']}, 'set.npz holds images: store x_train'),
  ],
)
def test_images(tmp_path, change, message):
  good = arrays()
  refused(tmp_path, good | change(good), message)


@pytest.mark.parametrize(
  'change, message',
  [
    (
      lambda a: {'x_train': changed(a['x_train'], (9, 2), np.nan)},
      r'x_train\[9\], column 2, holds nan',
    ),
    (
      lambda a: {
        'x_test': changed(a['x_test'], (1, 3), np.inf),
        'columns': ['a', 'b', 'c', 'rooms'],
      },
      r'x_test\[1\], column rooms, holds inf',
    ),
    (lambda a: {'y_train': changed(a['y_train'], 11, np.nan)}, r'y_train\[11\].* holds nan'),
    (lambda a: {'y_train': a['y_train'] * 0 + 3}, 'y_train: column 0 is constant'),
    (lambda a: {'x_train': a['x_train'] * [1, 1e20, 1, 1]}, r'column 1 reaches .*e\+20: rescale'),
    (
      lambda a: {'x_train': a['x_train'] * [1, 1, 1, 1e-40]},
      'column 3 varies by only .*e-40: rescale',
    ),
    (
      lambda a: {'x_train': a['x_train'] + [1e9, 0, 0, 0]},
      r'column 0 varies by .* around 1e\+09, which float32 cannot resolve',
    ),
    (lambda a: {'columns': ['a', 'b']}, 'x_train has 4 columns, but 2 names'),
    (lambda a: {'y_test': a['y_test'][:, None].repeat(2, 1)}, 'differ in kind'),
  ],
)
def test_numbers(tmp_path, change, message):
  good = numbers()
  refused(tmp_path, good | change(good), message)


def test_large_scales_that_float32_holds_are_fine(tmp_path):
  scales = np.array([1e9, 1e-9, 1, 1e15])
  good = numbers()
  scaled = {k: v * scales if k[0] == 'x' else v * 1e9 for k, v in good.items()}
  np.savez(tmp_path / 'set.npz', **scaled)
  loaded = data.load(f'npz:{tmp_path}/set.npz')
  np.testing.assert_allclose(np.array(loaded.std) / scales, 1, atol=0.4)
  assert loaded.target_std[0] > 1e8


def test_rows_of_a_file_with_splits_are_named_by_their_place_in_the_file(tmp_path):
  good = numbers()
  x = changed(good['x_train'], (30, 1), np.nan)
  mask = np.packbits(np.arange(40)[None] < 20, axis=1)
  refused(tmp_path, dict(x=x, y=good['y_train'], test_mask=mask), r'x\[30\], column 1, holds nan')
  refused(
    tmp_path, dict(x=x, y=good['y_test'], test_mask=mask[:, :2]), 'x has 40 examples, y has 10'
  )


def test_validation_leaves_every_class_an_example(tmp_path):
  labels = np.zeros(40, int)
  # The only example of the other class is one that the seeded tenth would take.
  held = np.random.RandomState(0).permutation(40)[36:]
  labels[held[0]] = 1
  contents = arrays() | dict(y_train=labels, y_test=np.zeros(10, int))
  np.savez(tmp_path / 'set.npz', **contents)
  loaded = data.load(f'npz:{tmp_path / "set.npz"}')
  assert np.bincount(loaded.train.y).tolist() == [35, 1] and len(loaded.valid.y) == 4
  contents['y_train'] = np.minimum(np.arange(40), 9)
  np.savez(tmp_path / 'set.npz', **contents)
  with pytest.raises(data.DataError, match=r'takes every training example of class \d'):
    data.load(f'npz:{tmp_path / "set.npz"}', valid=31)


def test_python_objects_are_not_read(tmp_path):
  labels = np.array([0, 'cat'] * 20, dtype=object)
  refused(tmp_path, arrays() | {'y_train': labels}, 'y_train holds Python objects')


def test_a_flipped_bit_and_a_cut_file_are_noticed(tmp_path):
  path = tmp_path / 'set.npz'
  np.savez(path, **arrays())
  good = path.read_bytes()
  middle = good.index(b'x_train.npy') + 500
  for damaged in (
    good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
    good[: len(good) // 2],
    b'',
    b'not a zip file',
  ):
    path.write_bytes(damaged)
    with pytest.raises(data.DataError, match=r'set\.npz.* cannot be read: the file is damaged'):
      data.load(f'npz:{path}')


def test_a_missing_file_is_missing_data(tmp_path):
  with pytest.raises(
    data.MissingData, match=r'file nowhere\.npz does not exist, nor in the folder'
  ):
    data.load('npz:nowhere.npz', dir=str(tmp_path))
  with pytest.raises(FileNotFoundError):
    data.load(f'npz:{tmp_path}/nowhere.npz')


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(y_train=np.zeros(40, int), y_test=np.zeros(10, int)), r'holds a single class \(0\)'),
    (
      dict(classes=np.array(['cat', 'dog', 'cat'])),
      "classes 0 and 2 are both called 'cat': rename",
    ),
    (
      dict(classes=np.array('cat')),
      r'classes is <U3 of shape \(\): store text|store names as text',
    ),
    (
      dict(x_train=np.ones((40, 4), bool)),
      'x_train holds bool, not numbers: store 0 and 1 as uint8',
    ),
    (dict(x_train=np.ones((40, 4), 'U3')), 'x_train holds <U3, not numbers'),
    (dict(x_train=np.ones((40, 4), complex)), 'x_train holds complex128, not numbers'),
    (dict(y_train=np.ones(40, 'M8[s]')), r'y_train holds datetime64\[s\]'),
  ],
)
def test_kinds_of_data_that_are_refused(tmp_path, change, message):
  refused(tmp_path, arrays() | change, message)


def test_boolean_labels_are_the_classes_0_and_1(tmp_path):
  two = {name: values % 2 == 1 for name, values in arrays().items() if name.startswith('y')}
  np.savez(tmp_path / 'set.npz', **arrays() | two)
  dataset = data.load(f'npz:{tmp_path}/set.npz')
  assert dataset.targets == 2 and dataset.test.y.tolist() == two['y_test'].astype(int).tolist()


def test_masked_arrays_are_refused():
  masked = np.ma.masked_array(numbers()['x_train'], mask=np.eye(40, 4, dtype=bool))
  with pytest.raises(data.DataError, match='here: x_train is a masked array: fill in its values'):
    checks.checked(Examples(masked, None), 'here', 'train')
