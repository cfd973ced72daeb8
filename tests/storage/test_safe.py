"""Atomic writes, checksums, locks."""

import json
import os
import signal
import subprocess
import sys
import threading

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import tensor_files

from ensdistill.storage import safe


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
  path = tmp_path / 'deep' / 'file'
  safe.write_atomic(path, 'ä')
  assert path.read_text() == 'ä'
  safe.write_atomic(path, b'two')
  assert path.read_bytes() == b'two'
  assert os.listdir(path.parent) == ['file']


def test_write_atomic_keeps_the_old_file_when_writing_fails(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  safe.write_atomic(path, 'old')

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError, match='No space'):
    safe.write_atomic(path, 'new')
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['file']


def test_sha256_of_the_empty_file(tmp_path):
  (tmp_path / 'file').touch()
  digest = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
  assert safe.sha256(tmp_path / 'file') == digest


def test_make_folder(tmp_path):
  assert safe.make_folder(tmp_path / 'a' / 'b').is_dir()
  assert os.listdir(tmp_path / 'a' / 'b') == []
  (tmp_path / 'file').touch()
  with pytest.raises(ValueError, match='cannot write into .*file.*choose another folder'):
    safe.make_folder(tmp_path / 'file' / 'b')


def test_flatten_is_undone_by_unflatten():
  tree = {'params': {'stem': {'kernel': jnp.arange(6.0).reshape(2, 3)}, 'b': np.float32(2)}}
  flat = safe.flatten(tree | {'batch_stats': {}})
  assert sorted(flat) == ['params/b', 'params/stem/kernel']
  assert all(isinstance(array, np.ndarray) for array in flat.values())
  back = safe.unflatten(flat)
  np.testing.assert_array_equal(back['params']['stem']['kernel'], np.arange(6.0).reshape(2, 3))
  assert back['params']['b'] == 2 and back.keys() == {'params'}


@pytest.mark.parametrize('name', ['a/b', '', 3])
def test_flatten_refuses_names_that_could_not_be_read_back(name):
  with pytest.raises(ValueError, match='names in a tree must be strings'):
    safe.flatten({'params': {name: np.zeros(1)}})


@pytest.mark.parametrize('names', [('a', 'a/b'), ('a/b', 'a')])
def test_unflatten_refuses_an_array_that_is_a_branch(names):
  with pytest.raises(ValueError, match='both an array and a branch'):
    safe.unflatten({name: np.zeros(1) for name in names})


def test_tensors_come_back_as_they_were(tmp_path):
  tensors = {
    'transposed': np.arange(6, dtype=np.float32).reshape(2, 3).T,
    'every/second': np.arange(10)[::2],
    'scalar': np.asarray(2.5),
    'empty': np.zeros((0, 3), np.uint8),
    'flags': np.array([True, False]),
  }
  metadata = {'kind': 'single', 'members': 4, 'nested': {'a': [1, None]}}
  path = tmp_path / 'weights.safetensors'
  tensor_files.save(path, tensors, metadata)
  back = tensor_files.load(path)
  assert back.keys() == tensors.keys()
  for name, array in tensors.items():
    np.testing.assert_array_equal(back[name], array, strict=True)
  with safetensors.safe_open(path, framework='numpy') as file:
    assert json.loads(file.metadata()['json']) == metadata


def test_the_same_tensors_give_the_same_file():
  tensors = {name: np.full(3, i, np.float32) for i, name in enumerate('abc')}
  backwards = dict(reversed(tensors.items()))
  content = safe.tensors_content('a', tensors, {'x': 1, 'y': 2})
  assert content == safe.tensors_content('b', backwards, {'y': 2, 'x': 1})


@pytest.mark.parametrize('dtype', [ml_dtypes.bfloat16, np.complex64, object])
def test_types_that_could_not_be_read_back_are_refused(dtype):
  with pytest.raises(ValueError, match="cannot store 'w'"):
    safe.tensors_content('w', {'w': np.zeros(3, dtype)})


def test_damaged_tensors_are_refused():
  good = safe.tensors_content('w', {'w': np.ones(100, np.float32)}, {'a': 1})
  for content in (good[:-1], good[:20], b'', b'\xff' * 50):
    with pytest.raises(ValueError):
      safe.parse_tensors(content)


HOLD = """
import sys, time
from ensdistill.storage import safe
with safe.lock(sys.argv[1]):
  print('held', flush=True)
  time.sleep(60)
"""


def test_a_lock_says_once_that_it_waits_and_dies_with_its_holder(tmp_path):
  path = tmp_path / 'locks' / 'lock'
  command = [sys.executable, '-c', HOLD, str(path)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
    assert holder.stdout.readline() == 'held\n'
    said = []

    def waiting():
      said.append('waiting')
      threading.Timer(0.1, lambda: os.kill(holder.pid, signal.SIGKILL)).start()

    with safe.lock(path, waiting):
      assert holder.wait() == -signal.SIGKILL
  assert said == ['waiting']
  with safe.lock(path, waiting=lambda: pytest.fail('nobody holds it')):
    pass


def test_a_lock_is_released_by_an_error(tmp_path):
  with pytest.raises(KeyError), safe.lock(tmp_path / 'lock'):
    raise KeyError
  with safe.lock(tmp_path / 'lock', waiting=lambda: pytest.fail('nobody holds it')):
    pass
