"""Folders of images: layouts, forms, parts, and files that cannot be read."""

import errno
import json

import jax
import numpy as np
import pictures
import PIL.Image
import pytest
import tiny

from ensdistill import data, distillation, run, teacher
from ensdistill.commands import data as data_command
from ensdistill.config import recipes
from ensdistill.data.images import stored, windows
from ensdistill.data.sources import folder
from ensdistill.logs import writers


def load(root, **settings):
  return data.load(f'folder:{root}', **settings)


def colours(x) -> np.ndarray:
  """Of images that have one each."""
  assert (x == x[:, :1, :1]).all()
  return x[:, 0, 0].astype(int)


def test_class_folders_are_cut_by_class_and_split(tmp_path):
  loaded = load(pictures.folder(tmp_path, (10, 5, 1)))
  assert loaded.classes == ('class_0', 'class_1', 'class_2') and loaded.targets == 3
  assert loaded.shape == (12, 12, 3) and loaded.train.x.dtype == np.uint8
  # A fifth of every class, rounded down: the only image of the third is for training.
  assert np.bincount(loaded.test.y, minlength=3).tolist() == [2, 1, 0]
  assert 2 in loaded.train.y and len(loaded.train.y) + len(loaded.valid.y) == 13
  seen = set()
  for x, y in (loaded.train, loaded.valid, loaded.test):
    for found, label in zip(colours(x), y):
      seen.add((label, found[2] // 2))
      assert found.tolist() == pictures.colour(label, found[2] // 2).tolist()
  assert len(seen) == 16
  other = load(tmp_path, split=1)
  assert other.fingerprint != loaded.fingerprint
  assert load(tmp_path, seed=1).test.y.tolist() == loaded.test.y.tolist()
  assert load(str(tmp_path.name), dir=str(tmp_path.parent)).fingerprint == loaded.fingerprint


def test_parts_below_the_folder(tmp_path):
  for part, counts in (('train', (8, 8)), ('val', (2, 3)), ('test', (1, 4))):
    pictures.folder(tmp_path / part, counts)
  loaded = load(tmp_path)
  assert [np.bincount(s.y).tolist() for s in (loaded.train, loaded.valid, loaded.test)] == [
    [8, 8],
    [2, 3],
    [1, 4],
  ]
  (tmp_path / 'test' / 'class_1').rename(tmp_path / 'test' / 'class_9')
  with pytest.raises(data.DataError, match="test: there is no class 'class_9' in the training"):
    load(tmp_path)
  (tmp_path / 'test').rename(tmp_path / 'no_test')
  loaded = load(tmp_path)
  assert np.bincount(loaded.test.y).tolist() == [2, 3] and len(loaded.valid.y) == 1
  with pytest.raises(ValueError, match=r'data.split=1: .* has 1 split\(s\), counted from 0'):
    load(tmp_path, split=1)
  (tmp_path / 'val').rename(tmp_path / 'no_val')
  assert load(tmp_path, split=1).test.x.tolist() != load(tmp_path).test.x.tolist()
  loaded = load(tmp_path)
  assert np.bincount(loaded.test.y).tolist() == [1, 1] and len(loaded.train.y) == 13


@pytest.mark.parametrize('name', ['val/Class_0/0.png', 'val/0.png', 'validation/a/b/0.png'])
def test_validation_images_without_a_class_are_refused(tmp_path, name):
  pictures.folder(tmp_path / 'train', (5, 5))
  (tmp_path / name).parent.mkdir(parents=True)
  assert len(load(tmp_path).test.y) == 2  # nothing is in it
  pictures.write(tmp_path / name, pictures.colour(0))
  part = tmp_path / name.split('/')[0]
  with pytest.raises(data.DataError, match=f"{part} holds images, but no .* as 'class_0'"):
    load(tmp_path)


@pytest.mark.parametrize('name', ['test/Class_0/0.png', 'test/0.png'])
def test_test_images_without_a_class_are_not_used_and_that_is_said(tmp_path, name):
  pictures.folder(tmp_path / 'train', (10, 10))
  pictures.write(tmp_path / name, pictures.colour(0))
  loaded = load(tmp_path)
  assert len(loaded.test.y) == 4
  assert loaded.unused == (
    f'{tmp_path}/test has no labels: a fifth of the training images are for testing'
  )
  pictures.folder(tmp_path / 'val', (1, 2))
  loaded = load(tmp_path)
  said = f'{tmp_path}/test has no labels: the validation images are for testing'
  assert len(loaded.test.y) == 3 and loaded.unused == said
  assert f'not used    {said}' in data_command.describe(loaded).splitlines()
  assert run._opening(tiny.config(), loaded, tmp_path).endswith(f'; not used: {said}')
  (tmp_path / name).unlink()
  assert not load(tmp_path).unused


def test_the_layout_of_tiny_imagenet(tmp_path):
  pictures.tiny_imagenet(tmp_path)
  loaded = load(tmp_path, valid=6)
  assert loaded.classes == ('n00012345', 'n00012346', 'n00012347')
  assert [len(s.y) for s in (loaded.train, loaded.valid, loaded.test)] == [54, 6, 6]
  assert loaded.test.y.tolist() == [0, 1, 2, 0, 1, 2]  # in the order of the annotations
  for image, label in zip(loaded.test.x, loaded.test.y):
    assert np.abs(image[8, 8].astype(int) - pictures.colour(label, 100)).max() <= 6
  file = tmp_path / 'val' / 'val_annotations.txt'
  for line, message in (
    ('val_99.JPEG\tn00012345', "val_annotations.txt, line 7: there is no image 'val_99.JPEG'"),
    ('val_0.JPEG\tn1', 'line 7: there is no class'),
    ('val_0.JPEG', 'line 7: there is no class'),
  ):
    good = file.read_text()
    file.write_text(good + line + '\n')
    with pytest.raises(data.DataError, match=message):
      load(tmp_path)
    file.write_text(good)


def test_the_config_of_tiny_imagenet_trains_from_its_folder(tmp_path):
  pictures.tiny_imagenet(tmp_path / 'tiny-imagenet-200')
  config = recipes.make('kd', 'tiny_imagenet', 'small')
  short = {'steps': 2, 'batch_size': 8}
  config.update(
    data=dict(dir=str(tmp_path)), teacher=dict(short, members=2), student=short, scores=1
  )
  config.evaluate.batch_size = 6
  plan = run.prepare(config, str(tmp_path / 'run'))
  assert plan.training.shape == (64, 64, 3) and len(plan.training.train.x) == 54
  found = teacher.obtain(config, plan.dataset, tmp_path / 'teachers', writers.Silent())
  student = distillation.distil(config, plan.training, found, plan.folder, writers.Silent())
  assert found.size == 2
  for trained in (found, student):
    for statistics in jax.tree.leaves(trained.variables['batch_stats']):
      assert np.isfinite(statistics).all() and not np.isin(statistics, (0, 1)).all()
  moved = jax.tree.map(lambda a, b: np.abs(a[0] - b[0]).max(), found.variables, student.variables)
  assert min(jax.tree.leaves(moved['params'])) > 0


def test_images_of_all_kinds_become_colour_of_one_size(tmp_path):
  pictures.folder(tmp_path, (6, 6))
  kinds = {'L': '.png', 'RGBA': '.png', 'LA': '.png', 'P': '.gif', 'CMYK': '.jpg', '1': '.bmp'}
  for mode, suffix in kinds.items():
    pictures.write(
      tmp_path / 'class_0' / f'{mode}{suffix.upper()}', (255, 255, 255), (30, 20), mode
    )
  deep = PIL.Image.fromarray(np.full((20, 30), 255 * 257, np.uint16))
  deep.save(tmp_path / 'class_0' / 'sixteen.png')
  with pytest.raises(data.DataError, match='an image of 30 x 20 pixels.* 12 x 12: set data.size'):
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
  assert {folder._first_form(files.take(slice(i, None))) for i in range(8)} == {(80, 40, 3)}


def test_a_damaged_mark_leaves_an_image_as_it_is(tmp_path):
  image = PIL.Image.new('RGB', (6, 4), (9, 9, 9))
  image.save(tmp_path / 'x.jpg', dpi=(72, 72), exif=b'Exif\0\0nothing of it')
  assert data.load_inputs(f'folder:{tmp_path}', shape=(4, 6, 3)).max() == 9


@pytest.mark.parametrize(
  'kind, values, message',
  [
    (np.float32, (0, 1), 'its pixels are floats: convert it to 8 or 16 bits'),
    (np.int32, (7, 2**30), f'its pixels are integers from 7 to {2**30}: convert it'),
    (np.int32, (-1, 9), 'its pixels are integers from -1 to 9: convert it'),
  ],
)
def test_pixels_that_8_bits_do_not_hold_are_refused(tmp_path, kind, values, message):
  x = np.resize(np.array(values, kind), (4, 4))
  PIL.Image.fromarray(x).save(tmp_path / 'x.tif')
  with pytest.raises(data.DataError, match=f'x.tif: {message}'):
    data.load_inputs(f'folder:{tmp_path}', shape=(4, 4, 3))
  PIL.Image.fromarray(np.full((4, 4), 40000, np.int32)).save(tmp_path / 'x.tif')
  assert set(data.load_inputs(f'folder:{tmp_path}', shape=(4, 4, 3)).flat) == {40000 >> 8}


def test_the_central_window_keeps_proportions(tmp_path):
  x = np.zeros((40, 100, 3), np.uint8)
  x[:, 30:70] = (10, 200, 90)  # the middle square
  x[10:30, 40:60] = 255  # the middle half of it
  (tmp_path / 'a').mkdir()
  PIL.Image.fromarray(x).save(tmp_path / 'a' / 'x.png')
  shapes = {'shape': (20, 20, 3)}
  whole = data.load_inputs(f'folder:{tmp_path}/a', **shapes)[0]
  assert (
    np.abs(whole[1:4, 1:4].astype(int) - [10, 200, 90]).max() == 0 and whole[10, 10].min() == 255
  )
  half = data.load_inputs(f'folder:{tmp_path}/a', central=0.5, **shapes)[0]
  assert half.min() == 255
  grey = data.load_inputs(f'folder:{tmp_path}/a', shape=(20, 20, 1))
  assert grey.shape == (1, 20, 20, 1) and abs(int(grey[0, 2, 2, 0]) - 131) <= 1  # its luma


def test_random_windows_lie_within_and_have_their_shares():
  rng = np.random.RandomState(0)
  for size in ((300, 200), (50, 400), (7, 7)):
    areas, ratios = [], []
    for uniform in rng.random_sample((400, 4, 10)):
      left, upper, right, lower = windows.random_window(size, (32, 32, 3), 0.08, uniform)
      assert 0 <= left < right <= size[0] and 0 <= upper < lower <= size[1]
      areas.append((right - left) * (lower - upper) / size[0] / size[1])
      ratios.append((right - left) / (lower - upper))
    assert 0.05 < min(areas) < 0.2 and max(areas) <= 1
    if size[0] > 100:  # most shares fit
      assert abs(np.mean(areas) - 0.45) < 0.08
      assert 0.7 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.4
  # Where nothing fits the central window is taken.
  assert windows.random_window((10, 1000), (32, 32, 3), 0.9, np.full((4, 10), 0.5)) == (
    windows.central_window((10, 1000), (32, 32, 3))
  )
  draw = lambda seed: [w((90, 60)) for w in windows.random_windows((8, 8, 3), 0.1, 5, seed)]
  assert draw([1, 2]) == draw([1, 2]) != draw([1, 3])


def test_a_jpeg_is_shrunk_while_it_is_decoded(tmp_path):
  smooth = np.linspace(0, 255, 512)[:, None, None] * np.ones((1, 512, 3))
  (tmp_path / 'a').mkdir()
  PIL.Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / 'a' / 'x.jpg', quality=95)
  found = data.load_inputs(f'folder:{tmp_path}/a', shape=(32, 32, 3))[0]
  expected = smooth.reshape(32, 16, 32, 16, 3).mean((1, 3))
  assert np.abs(found - expected).max() < 4


def test_an_unreadable_image_stops_or_is_skipped_and_counted(tmp_path):
  pictures.folder(tmp_path / 'train', (6, 6), suffix='.jpg')
  pictures.folder(tmp_path / 'test', (3, 3))
  bad = tmp_path / 'train' / 'class_1' / '002.jpg'
  pictures.damage(bad)
  (tmp_path / 'test' / 'class_0' / 'empty.png').write_bytes(b'')
  with pytest.raises(data.DataError, match=r'class_1/002.jpg cannot be read .*skip') as caught:
    load(tmp_path)
  assert '\n' not in str(caught.value)
  loaded = load(tmp_path, unreadable='skip')
  assert len(loaded.train.y) + len(loaded.valid.y) == 11 and len(loaded.test.y) == 6
  first, second = loaded.skipped
  assert first.startswith(f'{bad} cannot be read as an image (') and first.endswith(')')
  assert (
    second
    == f'{tmp_path}/test/class_0/empty.png cannot be read as an image (cannot identify image file)'
  )
  kept = tmp_path / 'train' / '.unreadable-train.json'
  known = json.loads(kept.read_text())
  assert list(known['unreadable']) == ['8']
  # Readable images are not tried again, unless the files changed.
  kept.write_text(json.dumps(known | {'unreadable': {}}))
  with pytest.raises(stored.Unreadable, match='002.jpg'):
    load(tmp_path, unreadable='skip')
  pictures.write(bad, pictures.colour(1, 2))
  assert len(load(tmp_path, unreadable='skip').skipped) == 1


def test_a_class_that_was_skipped_is_named_with_the_reason(tmp_path):
  pictures.folder(tmp_path, (6, 6, 1))
  pictures.damage(tmp_path / 'class_2' / '000.png')
  message = "class 2 of 3, 'class_2', has no training example .1 image.* the first: .*2/000.png can"
  with pytest.raises(data.DataError, match=message):
    load(tmp_path, unreadable='skip')


def test_unreadable_images_are_tried_again_and_may_have_been_repaired(tmp_path, monkeypatch):
  pictures.folder(tmp_path, (9, 9))
  bad = tmp_path / 'class_1' / '002.png'
  good = bad.read_bytes()
  bad.write_bytes(b'0' * len(good))
  tried = []
  decode = stored.Stored.decode
  monkeypatch.setattr(
    stored.Stored, 'decode', lambda x, row, *w: tried.append(row) or decode(x, row, *w)
  )
  monkeypatch.setattr(stored, '_CHUNK', 7)
  options = {'unreadable': 'skip', 'stream': 'on'}
  loaded = load(tmp_path, **options)
  assert len(loaded.skipped) == 1 and set(tried) == set(range(18))
  all_tried, tried[:] = len(tried), []
  loaded = load(tmp_path, **options)
  assert len(loaded.skipped) == 1 and len(tried) == all_tried - 17
  bad.write_bytes(good)  # of the same size
  assert not load(tmp_path, **options).skipped
  assert json.loads((tmp_path / '.unreadable-train.json').read_text())['unreadable'] == {}


@pytest.mark.parametrize(
  'error', [OSError(errno.EIO, 'Input/output error'), PermissionError(errno.EACCES, 'Denied')]
)
def test_errors_of_the_system_are_no_unreadable_images(tmp_path, monkeypatch, error):
  pictures.folder(tmp_path, (6, 6))

  def read(files, row):
    if files.where(row).endswith('class_1/003.png'):
      raise error
    return whole(files, row)

  whole = stored.Files.read
  monkeypatch.setattr(stored.Files, 'read', read)
  for unreadable in ('stop', 'skip'):
    with pytest.raises(data.DataError, match=f'class_1/003.png: {error.strerror}$') as caught:
      load(tmp_path, unreadable=unreadable)
    assert not isinstance(caught.value, stored.Unreadable)
  assert not list(tmp_path.glob('.unreadable*'))
  error = MemoryError()
  with pytest.raises(MemoryError):
    load(tmp_path, unreadable='skip')


def test_links_that_lead_nowhere_or_round_in_circles(tmp_path):
  root = pictures.folder(tmp_path / 'set', (6, 6))
  pictures.folder(tmp_path / 'beside', (3,))
  (root / 'class_1' / 'more').symlink_to(tmp_path / 'beside' / 'class_0')
  assert len(load(root).train.y) == 12 and len(load(root).test.y) == 2
  (root / 'class_0' / 'gone.png').symlink_to(tmp_path / 'gone.png')
  (root / 'class_0' / 'itself.png').symlink_to('itself.png')
  (root / 'itself').symlink_to('itself')
  with pytest.raises(stored.Unreadable, match='gone.png cannot be read .*No such file.*skip'):
    load(root)
  loaded = load(root, unreadable='skip')
  gone, itself = loaded.skipped
  assert 'class_0/gone.png' in gone and 'class_0/itself.png' in itself
  assert len(loaded.train.y) + len(loaded.valid.y) == 13
  for place, target in (('class_0', root), ('class_1', root / 'class_1'), ('class_1', '..')):
    link = root / place / 'loop'
    link.symlink_to(target)
    with pytest.raises(data.DataError, match=f'{link} leads back to a folder that it lies in'):
      load(root)
    link.unlink()
  (tmp_path / 'beside' / 'class_0' / 'back').symlink_to(root / 'class_1')
  with pytest.raises(data.DataError, match='class_1/more/back leads back'):
    load(root)


def test_what_is_refused(tmp_path):
  root = pictures.folder(tmp_path / 'set', (4, 4))
  for settings, message in (
    ({'size': -1}, 'data.size=-1 must not be negative'),
    ({'central': 0.0}, r'data.central=0.0 is a share of the shorter side, in \(0, 1\]'),
    ({'unreadable': 'ignore'}, "unknown data.unreadable 'ignore'"),
    ({'stream': 'yes'}, "unknown data.stream 'yes'"),
    ({'target': 'y'}, "unknown setting of data set 'folder:.*' 'target'"),
    ({'split': 20}, 'data.split=20'),
  ):
    with pytest.raises(ValueError, match=message):
      load(root, **settings)
  with pytest.raises(data.DataError, match='no class has 5 images, none is left for testing'):
    load(root)
  with pytest.raises(data.MissingData, match='nowhere: there is no such folder, nor in /data'):
    load('nowhere', dir='/data')
  (root / 'class_2').mkdir()
  with pytest.raises(data.DataError, match=r'class_2 holds no image \(.bmp'):
    load(root)
  with pytest.raises(data.DataError, match='class_0 has no class folders: it can serve as inputs'):
    load(root / 'class_0')
  (tmp_path / 'none').mkdir()
  with pytest.raises(data.DataError, match='none holds no image'):
    load(tmp_path / 'none')


def test_constants_of_a_folder_are_those_of_its_images(tmp_path):
  root = pictures.folder(tmp_path, (20, 20))
  loaded = load(root)
  as_seen = loaded.train.x / 255
  np.testing.assert_allclose(loaded.mean, as_seen.mean((0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(loaded.std, as_seen.std((0, 1, 2)), rtol=1e-6)
