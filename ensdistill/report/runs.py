"""Finished runs as a report reads them: results, configuration and pictures from their folders."""

import json
import pathlib
from typing import NamedTuple

from ensdistill.report.results import load


class Run(NamedTuple):
  """A finished run."""

  label: str
  folder: pathlib.Path
  config: dict
  results: dict

  @property
  def rows(self) -> list[dict]:
    return self.results['rows']

  @property
  def students(self) -> list[dict]:
    """The student's rows, first the view that the run is about."""
    found = [row for row in self.rows if row['name'].startswith('student')]
    return found[::-1] if self.config.get('student', {}).get('view') == 'averaged' else found

  @property
  def machine(self) -> str | None:
    """What it was timed on: processor, devices and versions; None where that is not recorded."""
    versions = self.results.get('versions', {})
    return repr(sorted(versions.items())) if 'processor' in versions else None

  def named(self, row: dict, name: str = '') -> str:
    """How a student's row is called: by the run's label unless told, and its view."""
    if row['name'] == 'student-averaged':
      return f'{name or self.label} (averaged)'
    return (name or self.label) + (' (members)' if row is not self.students[0] else '')


def read(folders) -> list[Run]:
  """The runs in these folders, each with its own label: the run's name, or else its folder's."""
  runs = []
  for folder in map(pathlib.Path, folders):
    results = load(folder)
    if results is None:
      raise ValueError(f'{folder} holds no finished run (no readable results.json): leave it out')
    try:
      config = json.loads((folder / 'config.json').read_text())
    except (OSError, ValueError) as error:
      raise ValueError(
        f'{folder}/config.json cannot be read ({error}): leave the run out'
      ) from None
    runs.append(Run(results['name'] or folder.name, folder, config, results))
  return _distinct(runs)


def _distinct(runs: list[Run]) -> list[Run]:
  def clash(label):
    return sum(run.label == label for run in runs) > 1

  for choose in (lambda run: run.folder.resolve().name, lambda run: str(run.folder)):
    runs = [run._replace(label=choose(run)) if clash(run.label) else run for run in runs]
  return runs


def by_data(runs: list[Run]) -> dict[str, list[Run]]:
  """The runs of each data set: rows of different data do not belong into one table."""
  groups = {}
  for run in runs:
    groups.setdefault(run.config['data']['name'], []).append(run)
  return groups
