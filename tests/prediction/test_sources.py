"""Inputs in blocks: every kind of file, every order of an array, and what is refused."""

import io
import os

import hostile
import numpy as np
import PIL.Image
import pytest

from ensdistill.data import DataError
from ensdistill.prediction import sources
from ensdistill.prediction.sources import Takes

GREY = Takes((4, 4, 1), None)
TABLE = Takes((3,), ['a', 'b', 'c'])
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(sources, 'BLOCK_ROWS', 4)


def read(paths, takes, stdin=None):
  """Return names, rows and errors of everything, and check that blocks are small."""
  names, x, errors = [], [], {}
  for group in sources.groups(list(map(str, paths)), takes, stdin):
    for block in group.blocks:
      assert len(block.names) <= 4
      errors |= {len(names) + row: why for row, why in block.errors.items()}
      names += block.names
      x += [] if block.x is None else [*block.x]
  return names, x, errors


def picture(path, value):
  PIL.Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('kind', ['npy', 'npz', 'compressed'])
def test_arrays_come_in_order_of_rows(tmp_path, order, kind):
  x = np.asarray(RANDOM.random((11, 4, 4, 1)), np.float32, order=order)
  path = tmp_path / ('x.npy' if kind == 'npy' else 'x.npz')
  if kind == 'npy':
    np.save(path, x)
  else:
    (np.savez if kind == 'npz' else np.savez_compressed)(path, other=x[:1], x=x)
  names, found, errors = read([path], GREY)
  np.testing.assert_array_equal(found, x)
  assert names[10] == f'{path}[10]' and not errors
  assert sources.count([str(path)], GREY) == 11


def test_one_example_and_grey_images_without_channel(tmp_path):
  one, many, none = tmp_path / 'one.npy', tmp_path / 'many.npy', tmp_path / 'none.npy'
  np.save(one, RANDOM.random((4, 4, 1)))
  np.save(many, RANDOM.random((5, 4, 4)))
  np.save(none, np.zeros((0, 4, 4, 1)))
  names, found, _ = read([one, many, none], GREY)
  assert names == [str(one), *(f'{many}[{row}]' for row in range(5))] and len(found) == 6


def test_images_in_folders_patterns_and_names_that_are_not_text(tmp_path):
  for folder, value in (('b', 3), ('a', 7)):
    (tmp_path / folder).mkdir()
    for number in range(3):
      picture(tmp_path / folder / f'{number}.png', value + number)
  picture(os.fsencode(tmp_path) + b'/caf\xe9.png', 9)
  (tmp_path / 'a' / '1.png').write_bytes(b'nothing')
  (tmp_path / '.hidden.png').write_bytes(b'nothing')
  (tmp_path / 'note.txt').write_text('nothing')
  (tmp_path / 'a' / 'loop').symlink_to(tmp_path)
  names, found, errors = read([tmp_path], GREY)
  assert [os.path.relpath(name, tmp_path) for name in names] == [
    'a/0.png', 'a/1.png', 'a/2.png', 'b/0.png', 'b/1.png', 'b/2.png', 'caf\\xe9.png'
  ]  # fmt: skip
  assert [int(x[0, 0, 0]) for x in found] == [7, 0, 9, 3, 4, 5, 9]
  assert list(errors) == [1] and 'cannot identify' in errors[1]
  assert sources.count([str(tmp_path)], GREY) == 7
  assert read([tmp_path / 'b' / '*.png'], GREY)[0] == names[3:6]
  assert read([tmp_path / 'none' / '*.png'], GREY)[2] == {
    0: 'no file was found there that the student takes'
  }


def test_a_folder_that_cannot_be_read_is_a_row(tmp_path, monkeypatch):
  (tmp_path / 'a').mkdir()
  picture(tmp_path / 'b.png', 3)
  (tmp_path / 'loop').symlink_to('loop')
  scandir = os.scandir

  def refused(path):
    if str(path).endswith('a'):
      raise PermissionError(13, 'Permission denied', path)
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', refused)
  names, found, errors = read([tmp_path], GREY)
  assert names == [str(tmp_path / 'a'), str(tmp_path / 'b.png')]
  assert errors == {0: 'Permission denied'} and int(found[0][0, 0, 0]) == 3


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'pipe.png')
  _, _, errors = read([tmp_path / 'pipe.png', tmp_path / 'missing.png'], GREY)
  assert 'a pipe' in errors[0] and 'No such file' in errors[1]


@pytest.mark.parametrize('takes', [GREY, TABLE])
@pytest.mark.parametrize(
  ('name', 'content', 'why'),
  [
    ('x.npy', b'', 'EOF|magic|read|expected'),
    ('x.npy', b'\x93NUMPY\x01\x00v\x00nothing', 'EOF|read|header'),
    ('x.npz', b'PK nothing', 'damaged'),
    ('x.txt', b'words', 'the student takes'),
    ('x.docx', b'words', 'the student takes'),
  ],
)
def test_bad_files_raise(tmp_path, takes, name, content, why):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(Exception, match=why):
    read([tmp_path / name], takes)


def test_bad_arrays_raise(tmp_path):
  path = tmp_path / 'x.npy'
  np.save(path, np.zeros((5, 4, 4, 1)))
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(DataError, match='ends before its array'):
    read([path], GREY)
  np.save(path, np.zeros((5, 4, 4, 1)))
  path.write_bytes(path.read_bytes() + b'x')
  with pytest.raises(DataError, match='longer than its array'):
    read([path], GREY)
  np.save(path, np.zeros((5, 3, 3, 1)))
  with pytest.raises(DataError, match='shape .5, 3, 3, 1., the student takes'):
    read([path], GREY)
  np.save(path, np.array([{}], object), allow_pickle=True)
  with pytest.raises(DataError, match='Python objects'):
    read([path], GREY)
  path.write_bytes(hostile.npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8, 8)}"))
  with pytest.raises(DataError, match='its array has shape .-1, 8, 8'):
    read([path], GREY)
  np.savez(tmp_path / 'x.npz', a=np.zeros(3), b=np.zeros(3))
  with pytest.raises(DataError, match='holds a, b: store the inputs as x'):
    read([tmp_path / 'x.npz'], GREY)


def test_standard_input_is_an_array_an_image_paths_or_a_table(tmp_path):
  x = RANDOM.random((6, 4, 4, 1)).astype(np.float32)
  array = io.BytesIO()
  np.save(array, x)
  names, found, _ = read(['-'], GREY, io.BytesIO(array.getvalue()))
  np.testing.assert_array_equal(found, x)
  assert names[5] == '-[5]'
  path = tmp_path / 'x.png'
  picture(path, 5)
  assert read(['-'], GREY, io.BytesIO(path.read_bytes()))[0] == ['-']
  names, found, _ = read(['-'], GREY, io.BytesIO(f'{path}\r\n\n{path}'.encode()))
  assert names == [str(path)] * 2 and found[1].max() == 5
  bitmap = tmp_path / 'x.bmp'
  picture(bitmap, 5)
  assert read(['-'], GREY, io.BytesIO(bitmap.read_bytes()))[1][0].max() == 5
  for start in ('BMW_side', 'P5_north', 'P6'):
    names, _, errors = read(['-'], GREY, io.BytesIO(f'{start}.png\n{path}'.encode()))
    assert names == [f'{start}.png', str(path)] and 'No such file' in errors[0]
  names, found, _ = read(['-'], TABLE, io.BytesIO(b'c,b,a\n3,2,1\n'))
  np.testing.assert_array_equal(found, [[1, 2, 3]])
  assert sources.count(['-'], TABLE) is None


def test_as_many_records_as_a_row_has_values_are_rows(tmp_path):
  records = np.zeros(3, [('a', 'f4'), ('b', 'f4'), ('c', 'f4')])
  np.save(tmp_path / 'x.npy', records)
  takes = sources.Takes((3,), ['a', 'b', 'c'])
  found = read([str(tmp_path / 'x.npy')], takes)
  assert len(found[0]) == 3


def test_errors_keep_what_follows_a_less_than_sign():
  error = ValueError("column 'age <5' <_io.BytesIO object at 0x7f10> is missing")
  assert sources.one_line(error) == "column 'age <5' is missing"
