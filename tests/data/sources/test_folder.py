"""Folders of images: layouts, parts, links, refusals."""

import jax
import numpy as np
import pictures
import PIL.Image
import pytest
import tiny

from ensdistill import data, distillation, report, run, teacher
from ensdistill.commands import data as data_command
from ensdistill.config import inputs, recipes
from ensdistill.data.images import stored
from ensdistill.data.sources import folder
from ensdistill.logs import writers


def load(root, **settings):
  return data.load(f'folder:{root}', **settings)


def colours(x) -> np.ndarray:
  """Return the colour of every image; each image has only one."""
  assert (x == x[:, :1, :1]).all()
  return x[:, 0, 0].astype(int)


def test_class_folders_are_cut_by_class_and_split(tmp_path):
  loaded = load(pictures.folder(tmp_path, (10, 5, 1)))
  assert loaded.classes == ('class_0', 'class_1', 'class_2') and loaded.targets == 3
  assert loaded.shape == (12, 12, 3) and loaded.train.x.dtype == np.uint8
  # A fifth of every class, rounded down, is for testing; the third class has one image only.
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


def test_listing_a_folder_of_many_files_is_progress(tmp_path, monkeypatch):
  """A watchdog would end a run that lists millions of files on the disk of a network."""
  looks = []
  monkeypatch.setattr(folder.stopping, 'check', lambda: looks.append(None))
  pictures.folder(tmp_path, (10, 5, 1))
  load(tmp_path)
  few = len(looks)
  monkeypatch.setattr(folder, '_OFTEN', 1)
  load(tmp_path)
  assert few >= 3 and len(looks) - few >= 16


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
  with pytest.raises(
    data.DataError, match="test holds class 'class_9', which the training folder lacks"
  ):
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
  with pytest.raises(data.DataError, match=f"{part} holds images, but has no .* as 'class_0'"):
    load(tmp_path)


@pytest.mark.parametrize('name', ['test/Class_0/0.png', 'test/0.png'])
def test_test_images_without_a_class_are_not_used(tmp_path, name):
  pictures.folder(tmp_path / 'train', (10, 10))
  pictures.write(tmp_path / name, pictures.colour(0))
  loaded = load(tmp_path)
  assert len(loaded.test.y) == 4
  assert loaded.unused == (
    f'{tmp_path}/test has no labels; a fifth of the training images is used for testing'
  )
  pictures.folder(tmp_path / 'val', (1, 2))
  loaded = load(tmp_path)
  note = f'{tmp_path}/test has no labels; the validation images are used for testing'
  assert len(loaded.test.y) == 3 and loaded.unused == note
  assert f'not used    {note}' in data_command.describe(loaded).splitlines()
  lines = report.opening(tiny.plan(tiny.config(), loaded))
  assert 'not used' in ' '.join(lines) and note in ' '.join(' '.join(lines).split())
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
    ('val_99.JPEG\tn00012345', "val_annotations.txt, line 7: image 'val_99.JPEG' is not in"),
    ('val_0.JPEG\tn1', "line 7: class 'n1' is not in the training folder"),
    ('val_0.JPEG', 'line 7: the class is missing'),
  ):
    good = file.read_text()
    file.write_text(good + line + '\n')
    with pytest.raises(data.DataError, match=message):
      load(tmp_path)
    file.write_text(good)


@pytest.mark.slow
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
  found = teacher.obtain(plan, writers.Silent())
  student = distillation.distil(plan, found, writers.Silent())
  assert found.size == 2
  for trained in (found, student):
    for statistics in jax.tree.leaves(trained.variables['batch_stats']):
      assert np.isfinite(statistics).all() and not np.isin(statistics, (0, 1)).all()
  moved = jax.tree.map(lambda a, b: np.abs(a[0] - b[0]).max(), found.variables, student.variables)
  assert min(jax.tree.leaves(moved['params'])) > 0


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
    with pytest.raises(data.DataError, match=f'{link} is a link to a folder that contains it'):
      load(root)
    link.unlink()
  (tmp_path / 'beside' / 'class_0' / 'back').symlink_to(root / 'class_1')
  with pytest.raises(
    data.DataError, match='class_1/more/back is a link to a folder that contains it'
  ):
    load(root)


def test_what_is_refused(tmp_path):
  root = pictures.folder(tmp_path / 'set', (4, 4))
  for settings, message in (
    ({'size': -1}, 'data.size=-1 must not be negative'),
    ({'central': 0.0}, r'data.central=0.0 must lie in \(0, 1\]'),
    ({'unreadable': 'ignore'}, "unknown data.unreadable 'ignore'"),
    ({'stream': 'yes'}, "unknown data.stream 'yes'"),
    ({'target': 'y'}, "unknown setting of data set 'folder:.*' 'target'"),
    ({'split': 20}, 'data.split=20'),
  ):
    with pytest.raises(ValueError, match=message):
      load(root, **settings)
  with pytest.raises(
    data.DataError, match='no class has 5 images, so none can be held out for testing'
  ):
    load(root)
  with pytest.raises(
    data.MissingData, match='folder nowhere does not exist, nor in the folder /data'
  ):
    load('nowhere', dir='/data')
  (root / 'class_2').mkdir()
  with pytest.raises(data.DataError, match=r'class_2 holds no image \(.bmp'):
    load(root)
  with pytest.raises(data.DataError, match='class_0 has no class folders: use it as inputs only'):
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


def drawn(root, *folders, reds=range(0, 240, 40)):
  for one in folders:
    (root / one).mkdir(parents=True, exist_ok=True)
    for i, red in enumerate(reds):
      PIL.Image.new('RGB', (4, 4), (red, 9, 9)).save(root / one / f'{i}.png')
  return f'folder:{root}'


def test_a_class_may_be_named_train(tmp_path):
  found = data.load(drawn(tmp_path, 'bus', 'car', 'train'), size=4)
  assert found.classes == ('bus', 'car', 'train')
  assert len(data.load_inputs(f'folder:{tmp_path}', shape=(4, 4, 3))) == 3  # one of each


@pytest.mark.parametrize('parts', [('training', 'test'), ('Train', 'Test')])
def test_parts_of_other_names_are_no_classes(tmp_path, parts):
  name = drawn(tmp_path, *(f'{part}/{c}' for part in parts for c in ('cat', 'dog')))
  with pytest.raises(data.DataError, match='which would be classes: name the parts train, val'):
    data.load(name, size=4)


@pytest.mark.parametrize(
  'folders, message',
  [
    (
      ('train/cat', 'train/dog', 'Test/cat', 'Test/dog'),
      "holds 'Test', which would be ignored beside train: name",
    ),
    (
      ('train/cat', 'val/cat', 'validation/cat'),
      "'val', which would be ignored beside train, valid",
    ),
    (('train', 'test', 'Testing'), "holds 'Testing', which would be ignored beside test"),
    (('Train', 'Test'), "'Test' and 'Train' without class folders: name them train and test if"),
    (('bus', 'train', 'Test'), "'Test' and 'train' without class folders"),
  ],
)
def test_folders_that_look_like_parts_are_neither_ignored_nor_classes(tmp_path, folders, message):
  name = drawn(tmp_path, *folders)
  with pytest.raises(data.DataError, match=message):
    data.load(name, size=4)


def test_a_part_of_two_names_is_one(tmp_path):
  name = drawn(tmp_path, *(f'{part}/{c}' for part in ('train', 'val') for c in ('cat', 'dog')))
  (tmp_path / 'validation').symlink_to('val')
  assert len(data.load(name, size=4).test.y) == 12


@pytest.mark.parametrize('folders', [('train', 'test', 'extra'), ('train', 'valid', 'labels')])
def test_train_is_a_part_beside_another_one(tmp_path, folders):
  name = drawn(tmp_path, *folders)
  assert len(data.load_inputs(name, shape=(4, 4, 3), part='train')) == 6
  with pytest.raises(data.InputsOnly, match=f'{tmp_path}/train has no class folders'):
    data.load(name, size=4)


def test_inputs_without_classes_come_from_the_part_that_is_wanted(tmp_path):
  name = drawn(tmp_path, 'train', 'test')
  PIL.Image.new('RGB', (4, 4)).save(tmp_path / 'test' / 'more.png')
  assert len(data.load_inputs(name, shape=(4, 4, 3))) == 7
  assert len(data.load_inputs(name, shape=(4, 4, 3), part='train')) == 6


def test_auxiliary_inputs_without_classes_are_those_of_the_training_part(tmp_path):
  """Detection is measured on the test part, which the student must not have seen."""
  drawn(tmp_path / 'aux', 'train', reds=range(3))
  drawn(tmp_path / 'aux', 'test', reds=range(200, 202))
  config = tiny.config()
  config.data.name, config.data.size = drawn(tmp_path / 'own', 'a', 'b'), 4
  for name, reds in (('aux', {0, 1, 2}), ('aux/test', {200, 201})):
    config.data.aux = f'folder:{tmp_path}/{name}'
    training = inputs.load_data(config)[1]
    assert set(training.train.x[-training.auxiliary :, 0, 0, 0]) == reds


def test_parts_without_labels_are_described_the_training_part_first(tmp_path):
  drawn(tmp_path / 'both', 'train', reds=range(3))
  drawn(tmp_path / 'both', 'test', reds=range(200, 202))
  drawn(tmp_path / 'one', 'train')
  found = data.load_unlabelled(f'folder:{tmp_path}/both', size=4)
  assert {part: len(x) for part, x in found.parts.items()} == {'train': 3, 'test': 2}
  assert found.mean[0] == pytest.approx(1 / 255)
  assert list(data.load_unlabelled(f'folder:{tmp_path}/one', size=4).parts) == ['train']
  assert list(data.load_unlabelled(f'folder:{tmp_path}/one/train', size=4).parts) == ['test']
