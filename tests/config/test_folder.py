"""A run's folder: claimed by its settings, cleared, refused."""

import os

import pytest
import tiny

from ensdistill.config import folder
from ensdistill.storage import safe


def claimed(path, **changes):
  return folder.claim(path, tiny.config(**changes))


def test_a_folder_with_nothing_saved_takes_other_settings(tmp_path):
  assert claimed(tmp_path) == ''
  (tmp_path / 'metrics.jsonl').write_text('{}')
  (tmp_path / 'checkpoints').mkdir()
  note = claimed(tmp_path, student__steps=7)
  assert 'student.steps: 6 -> 7' in note and not (tmp_path / 'metrics.jsonl').exists()
  assert claimed(tmp_path, student__steps=7) == ''


@pytest.mark.parametrize('kept', ['checkpoints/student/3.json', 'student/x', 'results.json'])
def test_a_folder_with_something_saved_refuses_them_unless_a_loss_was_not_finite(tmp_path, kept):
  claimed(tmp_path)
  path = tmp_path / kept
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('')
  with pytest.raises(ValueError, match=r'student.steps: 6 -> 7.*add --overwrite'):
    claimed(tmp_path, student__steps=7)
  assert path.exists() and claimed(tmp_path, on_nan='skip') == ''  # no result depends on it
  (tmp_path / folder.BAD_STEP).write_text('{}')
  if kept.startswith('checkpoints'):
    assert claimed(tmp_path, student__steps=7) and not path.exists()
  else:
    with pytest.raises(ValueError, match='add --overwrite'):
      claimed(tmp_path, student__steps=7)


def test_clear_leaves_what_no_run_writes(tmp_path):
  claimed(tmp_path)
  for name in ('teachers/abc/member_000.safetensors', 'notes.txt', 'lock', 'student-2/config.json'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('')
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  (tmp_path / 'tb').symlink_to(elsewhere)
  folder.check_overwrite(tmp_path)
  folder.clear(tmp_path)
  left = sorted(path.name for path in tmp_path.iterdir())
  assert left == ['elsewhere', 'lock', 'notes.txt', 'teachers']
  assert (tmp_path / 'teachers/abc/member_000.safetensors').exists()


def test_overwrite_refuses_other_folders_and_running_runs(tmp_path):
  folder.check_overwrite(tmp_path / 'missing')
  folder.check_overwrite(tmp_path)  # empty
  (tmp_path / 'thesis.tex').write_text('')
  with pytest.raises(ValueError, match='is not the folder of a run'):
    folder.check_overwrite(tmp_path)
  (tmp_path / 'config.json').write_text('{"format": 1}')  # as in a student's folder
  with pytest.raises(ValueError, match='is not the folder of a run'):
    folder.check_overwrite(tmp_path)
  run = tmp_path / 'run'
  claimed(run)
  folder.check_overwrite(run)
  with safe.lock(run / 'lock'), pytest.raises(ValueError, match=r'process \d+ on .*: stop it'):
    folder.check_overwrite(run)


def test_overwrite_takes_a_damaged_run(tmp_path):
  claimed(tmp_path)
  (tmp_path / 'metrics.jsonl').write_text('')
  config = tmp_path / 'config.json'
  for damage in ('{"teachex": 1}', '{', None):
    config.unlink() if damage is None else config.write_text(damage)
    folder.check_overwrite(tmp_path)
  config.with_name('config.json.seal').unlink()
  os.mkfifo(config)
  folder.check_overwrite(tmp_path)
  config.unlink()
  with pytest.raises(ValueError, match='is not the folder of a run'):
    folder.check_overwrite(tmp_path)
