"""Runs are read from their folders, also those of older versions."""

import json

import pytest
from reports import gap_rows, results

from ensdistill.config import folder as claims
from ensdistill.report import runs
from ensdistill.storage import seals


def stored(folder, found=None, **changes):
  """Write a run with these results into a folder; return the folder."""
  folder.mkdir(parents=True)
  (folder / 'results.json').write_text(json.dumps(results(found or gap_rows(), **changes)))
  (folder / 'config.json').write_text('{"data": {"name": "digits"}}')
  return folder


def test_rows_of_older_results_get_their_roles(tmp_path):
  found = gap_rows()
  for row in found:
    del row['role'], row['size']
  read = claims.results(stored(tmp_path / 'a', found))
  roles = [(row['name'], row['role'], row['size']) for row in read['rows']]
  assert roles == [
    ('member', 'member', 1), ('ensemble-4', 'ensemble', 4), ('student', 'student', None)
  ]  # fmt: skip


def test_runs_of_one_name_are_labelled_by_their_folders(tmp_path):
  names = [('x', 'a'), ('y', 'a'), ('y', 'b')]
  folders = [stored(tmp_path / first / second) for first, second in names]
  labels = [run.label for run in runs.read_runs(folders)]
  assert labels == [str(folders[0]), str(folders[1]), 'b']
  assert runs.read_runs(folders[:1])[0].label == 'run'
  unnamed = stored(tmp_path / 'z', name='')
  assert runs.read_runs([unnamed])[0].label == 'z'


def test_folders_without_a_finished_run_are_refused(tmp_path):
  with pytest.raises(ValueError, match='holds no finished run'):
    runs.read_runs([tmp_path])
  folder = stored(tmp_path / 'a')
  (folder / 'config.json').write_text('{')
  with pytest.raises(seals.Damaged, match=r'config.json is damaged .* leave the run out'):
    runs.read_runs([folder])
  (folder / 'results.json').write_text('{')
  with pytest.raises(seals.Damaged, match=r'results.json is damaged .* leave the run out'):
    runs.read_runs([folder])


def test_results_that_fail_their_seal_are_not_shown(tmp_path, capsys):
  folder = stored(tmp_path / 'a')
  claims.results(folder, note=print)
  assert 'has no seal' in capsys.readouterr().out
  seals.write_json(folder / 'results.json', results(gap_rows()))
  assert runs.read_runs([folder])[0].label == 'run' and not capsys.readouterr().err
  path = folder / 'results.json'
  path.write_text(path.read_text().replace('0.945', '0.955'))
  with pytest.raises(seals.Damaged, match='results.json is damaged .its content has changed'):
    runs.read_runs([folder])
