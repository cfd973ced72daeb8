"""Images that cannot be decoded: skipped, tried again, and errors of the system."""

import errno
import json

import pictures
import pytest

from ensdistill import data
from ensdistill.data.images import stored


def load(root, **settings):
  return data.load(f'folder:{root}', **settings)


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


def test_an_error_names_a_class_whose_images_were_skipped(tmp_path):
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
  tried: list[int] = []
  decode = stored.Stored.decode

  def recorded(images, row, *window):
    tried.append(row)
    return decode(images, row, *window)

  monkeypatch.setattr(stored.Stored, 'decode', recorded)
  monkeypatch.setattr(stored, 'CHUNK', 7)
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
def test_errors_of_the_system_are_not_unreadable_images(tmp_path, monkeypatch, error):
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
