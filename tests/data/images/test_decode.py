"""Decoding: kinds of files, orientation, and pixels of more than 8 bits."""

import numpy as np
import pictures
import PIL.Image
import pytest

from ensdistill import data
from ensdistill.data.images import decode
from ensdistill.data.sources import folder


def load(root, **settings):
  return data.load(f'folder:{root}', **settings)


def test_images_of_all_kinds_become_colour_of_one_size(tmp_path):
  pictures.folder(tmp_path, (6, 6))
  kinds = {'L': '.png', 'RGBA': '.png', 'LA': '.png', 'P': '.gif', 'CMYK': '.jpg', '1': '.bmp'}
  for mode, suffix in kinds.items():
    pictures.write(
      tmp_path / 'class_0' / f'{mode}{suffix.upper()}', (255, 255, 255), (30, 20), mode
    )
  deep = PIL.Image.fromarray(np.full((20, 30), 255 * 257, np.uint16))
  deep.save(tmp_path / 'class_0' / 'sixteen.png')
  with pytest.raises(data.DataError, match='the image has 30 x 20 pixels.* 12 x 12: set data.size'):
    load(tmp_path)
  loaded = load(tmp_path, size=8)
  assert loaded.shape == (8, 8, 3)
  everything = np.concatenate([s.x for s in (loaded.train, loaded.valid, loaded.test)])
  white = (everything.min((1, 2, 3)) >= 254).sum()
  assert white == len(kinds) + 1


@pytest.mark.parametrize('mode, expected', [('L', (131, 131, 131)), ('RGBA', (10, 200, 90))])
def test_grey_and_transparent_images_keep_their_values(tmp_path, mode, expected):
  image = PIL.Image.new('RGB', (9, 9), (10, 200, 90)).convert(mode)
  if mode == 'RGBA':
    image.putalpha(0)
  image.save(tmp_path / 'x.png')
  assert data.load_inputs(f'folder:{tmp_path}', shape=(3, 3, 3))[0, 1, 1].tolist() == [*expected]


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif', 'webp'])
def test_a_photograph_is_seen_upright(tmp_path, suffix):
  x = np.full((80, 40, 3), 128, np.uint8)
  x[:30], x[50:, :20], x[50:, 20:] = (250, 30, 30), (30, 250, 30), (30, 30, 250)
  meant = PIL.Image.fromarray(x)
  # What a camera stores with each mark, so that the mark brings it upright.
  turns = {1: (), 2: (0,), 3: (3,), 4: (1,), 5: (5,), 6: (2,), 7: (6,), 8: (4,)}
  for mark, turn in turns.items():
    kept = meant.transpose(PIL.Image.Transpose(turn[0])) if turn else meant
    exif = PIL.Image.Exif()
    exif[0x0112] = mark
    kept.save(tmp_path / f'{mark}.{suffix}', exif=exif, quality=95)
  for shape in ((80, 40, 3), (20, 10, 3)):
    found = data.load_inputs(f'folder:{tmp_path}', shape=shape).astype(int)
    places = ((0.2, 0.5, (250, 30, 30)), (0.8, 0.2, (30, 250, 30)), (0.8, 0.8, (30, 30, 250)))
    for down, across, expected in places:
      seen = found[:, int(down * shape[0]), int(across * shape[1])]
      assert len(seen) == 8 and np.abs(seen - [expected]).max() < 12
  files, _ = folder._listed(tmp_path, (), whole=True)
  assert {folder._first_shape(files.take(slice(i, None))) for i in range(8)} == {(80, 40, 3)}


def test_a_damaged_mark_leaves_an_image_as_it_is(tmp_path):
  image = PIL.Image.new('RGB', (6, 4), (9, 9, 9))
  image.save(tmp_path / 'x.jpg', dpi=(72, 72), exif=b'Exif\0\0nothing of it')
  assert data.load_inputs(f'folder:{tmp_path}', shape=(4, 6, 3)).max() == 9


@pytest.mark.parametrize(
  'kind, values, message',
  [
    (np.float32, (0, 1), 'the pixels are floats'),
    (np.int32, (0, 200), 'the pixels are integers of 32 bits'),
    (np.int32, (-1, 2**30), 'the pixels are integers of 32 bits'),
  ],
)
def test_pixels_that_8_bits_do_not_hold_are_refused_or_skipped(tmp_path, kind, values, message):
  PIL.Image.fromarray(np.resize(np.array(values, kind), (4, 4))).save(tmp_path / 'x.tif')
  PIL.Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / 'y.tif')
  form = {'shape': (4, 4, 3)}
  with pytest.raises(data.DataError, match=f'x.tif .*{message}: convert the image to 8 or 16'):
    np.asarray(data.load_inputs(f'folder:{tmp_path}', **form))
  found = data.load_inputs(f'folder:{tmp_path}', unreadable='skip', **form)
  assert len(found) == 1 and set(np.asarray(found).flat) == {40000 >> 8}


@pytest.mark.parametrize('text', ['2e8', '-5', '0'])
def test_a_wrong_limit_on_pixels_is_no_damage(tmp_path, monkeypatch, text):
  pictures.folder(tmp_path, (6, 6))
  monkeypatch.setenv('ENSDISTILL_MAX_PIXELS', text)
  message = f'ENSDISTILL_MAX_PIXELS={text!r} must be a whole number from 1: set it to a number'
  for settings in ({}, {'size': 4}, {'size': 4, 'unreadable': 'skip'}):
    with pytest.raises(ValueError, match=message):
      load(tmp_path, **settings)
  with pytest.raises(ValueError, match=message):
    data.load_inputs(f'folder:{tmp_path}', shape=(4, 4, 3))
  with pytest.raises(ValueError, match=message):
    data.parts(f'folder:{tmp_path}', size=4)


def test_an_empty_limit_on_pixels_is_none(tmp_path, monkeypatch):
  default = decode.largest()
  monkeypatch.setenv('ENSDISTILL_MAX_PIXELS', '')
  assert decode.largest() == default
  assert load(pictures.folder(tmp_path, (6, 6)), size=4).shape == (4, 4, 3)


def test_a_jpeg_is_shrunk_while_it_is_decoded(tmp_path):
  smooth = np.linspace(0, 255, 512)[:, None, None] * np.ones((1, 512, 3))
  (tmp_path / 'a').mkdir()
  PIL.Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / 'a' / 'x.jpg', quality=95)
  found = data.load_inputs(f'folder:{tmp_path}/a', shape=(32, 32, 3))[0]
  expected = smooth.reshape(32, 16, 32, 16, 3).mean((1, 3))
  assert np.abs(found - expected).max() < 4
