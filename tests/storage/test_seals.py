"""Seals: damage is named, and a kill at any file operation leaves the old or the new content."""

import hashlib
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import ensdistill
from ensdistill.storage import safe, seals


def read(folder, names=('a.json', 'b.bin'), label='x'):
  return seals.read(folder, label, names, remedy='remove it')


@pytest.fixture
def folder(tmp_path):
  seals.write(tmp_path, 'x', {'b.bin': b'\0\1\2', 'a.json': '{"made_by": 1}'}, kind='k')
  return tmp_path


def test_what_was_written_is_read(folder):
  found = read(folder)
  assert found.files == {'a.json': b'{"made_by": 1}', 'b.bin': b'\0\1\2'}
  assert found.facts['kind'] == 'k' and sorted(os.listdir(folder)) == ['a.json', 'b.bin', 'x.seal']
  assert read(folder, ['b.bin']).files == {'b.bin': b'\0\1\2'}
  assert read(folder / 'nowhere') is None


def test_strict_json_holds_null_in_place_of_numbers_that_are_not_finite():
  value = {'a': (1, math.inf, [-math.inf]), 'b': np.float32(0.5), 'c': np.float64('nan'), 'd': 'x'}
  assert seals.strict(value) == {'a': [1, None, [None]], 'b': 0.5, 'c': None, 'd': 'x'}


def test_the_last_line_is_the_digest_of_the_line_before(folder):
  line, last = (folder / 'x.seal').read_bytes().splitlines(keepends=True)
  assert last.decode() == hashlib.sha256(line).hexdigest() + '\n'
  assert json.loads(line)['files']['b.bin'] == hashlib.sha256(b'\0\1\2').hexdigest()


@pytest.mark.parametrize('name', ['a.json', 'b.bin', 'x.seal'])
def test_every_flipped_bit_every_truncation_and_a_removal_name_the_file(folder, name):
  path, good = folder / name, (folder / name).read_bytes()
  damaged = [good[:n] for n in range(len(good))] + [good + b' ', good + b'\n']
  for at in range(8 * len(good)):
    content = bytearray(good)
    content[at // 8] ^= 1 << at % 8
    damaged.append(bytes(content))
  for content in damaged:
    path.write_bytes(content)
    with pytest.raises(seals.Damaged, match=f'{name} is damaged .*: remove it') as error:
      read(folder)
    assert error.value.path == path and '\n' not in str(error.value)
  path.unlink()
  with pytest.raises(seals.Damaged, match=f'{name} is damaged .it is missing'):
    read(folder)


def test_a_seal_covers_the_files_that_are_asked_for(folder):
  (folder / 'c.bin').touch()
  with pytest.raises(seals.Damaged, match='c.bin is damaged'):
    read(folder, ['c.bin'])


@pytest.mark.parametrize('content', [{}, {'files': 3}, {'files': None}, {'before': []}])
def test_a_sealed_line_of_another_kind_is_no_seal(folder, content):
  (folder / 'x.seal').write_text(seals.seal(content))
  with pytest.raises(seals.Damaged):
    read(folder)


def test_only_regular_files_are_opened(folder):
  for make in (lambda p: os.mkfifo(p), lambda p: p.symlink_to('/dev/zero'), lambda p: p.mkdir()):
    path = folder / 'b.bin'
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(seals.Damaged, match='b.bin is damaged'):
      read(folder)


def test_files_without_a_seal_are_read_unless_they_had_one(tmp_path):
  (tmp_path / 'a.json').write_text('{"x": 1}')
  said = []

  def read_json():
    return seals.read_json(tmp_path / 'a.json', remedy='r', note=said.append)

  assert read_json() == {'x': 1}
  assert len(said) == 1 and 'a.json has no seal' in said[0]
  (tmp_path / 'a.json').write_text('{"x": 1, "made_by": {}}')
  with pytest.raises(seals.Damaged, match='a.json.seal is damaged .it is missing'):
    read_json()


@pytest.mark.parametrize('text', ['[1]', '{"a": NaN}', '{', '"', '[' * 100_000, '\0', ''])
def test_json_that_is_no_strict_object(tmp_path, text):
  (tmp_path / 'a.json').write_text(text)
  with pytest.raises(seals.Damaged, match='a.json is damaged'):
    seals.read_json(tmp_path / 'a.json', remedy='r')


class Killed(BaseException):
  """Raised at a file operation."""


def killed_at(number, monkeypatch, write):
  """Run a function that is killed before its file operation `number`; return whether it was."""
  count, replace = [0], os.replace

  def dies(*arguments):
    if count[0] == number:
      raise Killed
    count[0] += 1
    replace(*arguments)

  with monkeypatch.context() as patch:
    patch.setattr(os, 'replace', dies)
    try:
      write()
    except Killed:
      return True
  return False


def test_a_kill_while_a_file_is_replaced_leaves_the_old_or_the_new(tmp_path, monkeypatch):
  path = tmp_path / 'a.json'
  for before in ({'x': 1}, None, 'unsealed'):
    for number in range(9):
      path.unlink(missing_ok=True)
      (tmp_path / 'a.json.seal').unlink(missing_ok=True)
      if before == 'unsealed':
        path.write_text('{"x": 1}')
      elif before:
        seals.write_json(path, before)
      killed = killed_at(number, monkeypatch, lambda: seals.write_json(path, {'x': 2}))
      if path.exists():
        found = seals.read_json(path, remedy='r')
        assert found == {'x': 2} or (killed and before and found == {'x': 1})
      else:
        assert killed and not before
      seals.write_json(path, {'x': 3})
      assert seals.read_json(path, remedy='r') == {'x': 3}
      if not killed:
        break
    assert number == {str: 3, dict: 3, type(None): 2}[type(before)]


def test_a_kill_while_a_group_is_replaced_is_never_a_mixture(folder, monkeypatch):
  old, new = {'b.bin': b'1', 'a.json': '{"made_by": 1}'}, {'b.bin': b'2', 'a.json': '{}'}
  for number in range(4):
    seals.write(folder, 'x', old)
    killed = killed_at(number, monkeypatch, lambda: seals.write(folder, 'x', new))
    try:
      found = read(folder).files['b.bin']
    except seals.Damaged:
      assert killed
    else:
      assert found == (b'1' if number == 0 else b'2')
    seals.write(folder, 'x', new)
    assert read(folder).files['a.json'] == b'{}'


def test_the_same_content_is_not_written_again(folder, monkeypatch):
  files = {'b.bin': b'\0\1\2', 'a.json': '{"made_by": 1}'}
  monkeypatch.setattr(safe, 'write_atomic', lambda *_: pytest.fail('written'))
  seals.write(folder, 'x', files, kind='k')


def test_errors_come_with_the_package_and_import_no_jax():
  code = (
    'import sys, ensdistill\n'
    'assert issubclass(ensdistill.StudentError, ensdistill.Damaged)\n'
    'assert issubclass(ensdistill.Damaged, ValueError) and "jax" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
  assert ensdistill.Damaged is seals.Damaged
