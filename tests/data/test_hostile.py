"""Hostile files: only documented errors, in one line, within bounded time and memory."""

import os
import time
import tracemalloc

import attempts
import hostile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ensdistill import data, memory
from ensdistill.data import files
from ensdistill.data.images import decode
from ensdistill.data.sources import npz

QUICK = settings(
  max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
LONG = settings(QUICK, max_examples=1000, derandomize=False)


@QUICK
@given(hostile.npz())
def test_npz(content):
  attempts.file('npz', content)


@QUICK
@given(hostile.csv())
def test_csv(content):
  attempts.file('csv', content, target='y')


@settings(QUICK, max_examples=30)
@given(hostile.image())
def test_images(content):
  attempts.folder(content)


@pytest.mark.slow
@LONG
@given(hostile.npz())
def test_a_thousand_npz(content):
  attempts.file('npz', content)


@pytest.mark.slow
@LONG
@given(hostile.csv())
def test_a_thousand_csv(content):
  attempts.file('csv', content, target='y')


@pytest.mark.slow
@LONG
@given(hostile.image())
def test_a_thousand_images(content):
  attempts.folder(content)


def test_what_unpacks_to_far_more_is_refused_before_it_is_allocated(tmp_path, monkeypatch):
  monkeypatch.setattr(npz, '_LARGE', 2**20)
  path = tmp_path / 'bomb.npz'
  path.write_bytes(hostile.bomb(2**22))
  assert path.stat().st_size < 2**15
  tracemalloc.start()
  with pytest.raises(data.DataError, match=r'x_train unpacks .*kB to 4.2 MB.*numpy.savez, uncomp'):
    data.load(f'npz:{path}')
  assert tracemalloc.get_traced_memory()[1] < 2**21
  tracemalloc.stop()


def test_a_header_that_is_nested_deeply_is_damage(tmp_path):
  entries = {'x_train.npy': hostile.npy_of('-' * 9000 + '1')}
  (tmp_path / 'a.npz').write_bytes(hostile.zip_of(entries))
  with pytest.raises(data.DataError, match='damaged or .*the array is nested too deeply'):
    npz.read_array(tmp_path / 'a.npz', 'x_train')


def test_a_header_that_states_more_than_there_is_allocates_nothing(tmp_path):
  header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 8), }"
  entries = {f'{name}.npy': hostile.npy_of(header) for name in ('x_train', 'y_train', 'x_test')}
  (tmp_path / 'a.npz').write_bytes(hostile.zip_of(entries))
  with pytest.raises(data.DataError, match='x_train cannot be read: .*bytes instead of 64,000,0'):
    data.load(f'npz:{tmp_path}/a.npz')


def test_what_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
  np.savez(tmp_path / 'a.npz', **hostile.good_arrays())
  (tmp_path / 'a.csv').write_text('a,y\n' + '1,2\n' * 30)
  monkeypatch.setattr(memory, 'available', lambda: 50)
  for name, message in (
    ('a.npz', 'a.npz: x_train takes 144 bytes of memory, and 50 bytes are free: store fewer'),
    ('a.csv', 'a.csv as text takes .* and 50 bytes are free: store the table as an .npz file'),
  ):
    with pytest.raises(data.DataError, match=message):
      data.load(f'{name[2:]}:{tmp_path}/{name}', **({'target': 'y'} if 'csv' in name else {}))


@pytest.mark.parametrize('kind', ['pipe', 'device', 'folder', 'socket'])
def test_only_regular_files_are_opened(tmp_path, monkeypatch, kind):
  path = tmp_path / 'a'
  if kind == 'pipe':
    os.mkfifo(path)
  elif kind == 'device':
    path.symlink_to('/dev/zero')
  elif kind == 'folder':
    path.mkdir()
  else:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
      monkeypatch.chdir(tmp_path)
      server.bind('a')
  began = time.monotonic()
  with pytest.raises(files.NotRegular, match=f'{path} is a {kind}, not a regular file'):
    files.opened(path)
  for source in ('npz', 'csv'):
    with pytest.raises(data.DataError, match='not a regular file'):
      data.load(f'{source}:{path}', **({'target': 'y'} if source == 'csv' else {}))
  assert time.monotonic() - began < 5
  (tmp_path / 'real').write_bytes(b'content')
  (tmp_path / 'link').symlink_to(tmp_path / 'real')
  assert files.read(tmp_path / 'link') == b'content'
  with pytest.raises(data.DataError, match='real has 7 bytes; the limit is 6 bytes'):
    files.read(tmp_path / 'real', limit=6)


@pytest.mark.parametrize('kind', ['pipe', 'device', 'eps', 'huge', 'large'])
def test_images_that_are_none_can_be_skipped(tmp_path, monkeypatch, kind):
  for label in ('cat', 'dog'):
    (tmp_path / label).mkdir()
    for number in range(12):
      (tmp_path / label / f'{number}.png').write_bytes(hostile.png(4, 4, bytes(4 * 13)))
  bad = tmp_path / 'cat' / '0.png'
  bad.unlink()
  if kind == 'pipe':
    os.mkfifo(bad)
  elif kind == 'device':
    bad.symlink_to('/dev/zero')
  elif kind == 'large':
    monkeypatch.setattr(decode, 'LARGEST_FILE', 1000)
    bad.write_bytes(bytes(1001))
  else:
    bad.write_bytes(hostile.EPS if kind == 'eps' else hostile.png(20_000, 20_000))
  known = {
    'eps': 'cannot be read',
    'huge': 'cannot be read .*the limit is 89,478,485 pixels',
    'large': 'has 1 kB; the limit is 1 kB',
  }
  why = known.get(kind, f'is a {kind}, not a regular file')
  with pytest.raises(data.stored.Unreadable, match=f'{bad} {why}.*data.unreadable=') as error:
    data.load(f'folder:{tmp_path}', size=4)
  assert '\n' not in str(error.value)
  dataset = data.load(f'folder:{tmp_path}', size=4, unreadable='skip')
  assert len(dataset.skipped) == 1 and str(bad) in dataset.skipped[0]


def test_an_eps_starts_no_other_program(monkeypatch):
  import subprocess

  def started(*arguments, **_):
    raise AssertionError(f'a program was started: {arguments}')

  monkeypatch.setattr(subprocess, 'Popen', started)
  for content in (hostile.EPS, b'%PDF-1.4'):
    with pytest.raises(OSError, match='cannot identify'):
      decode.opened(content).load()


def test_the_limit_on_pixels_can_be_raised(monkeypatch):
  monkeypatch.setenv('ENSDISTILL_MAX_PIXELS', '15')
  with pytest.raises(Exception, match='4 x 4; the limit is 15 pixels in all, set ENSDISTILL_MAX_'):
    decode.opened(hostile.png(4, 4))
  monkeypatch.setenv('ENSDISTILL_MAX_PIXELS', '16')
  assert decode.opened(hostile.png(4, 4)).size == (4, 4)
