"""Finished runs as a report reads them: results, configuration and pictures from their folders."""

import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ensdistill.config import folder as claims
from ensdistill.evaluation.rows import AVERAGED, STUDENTS, of_role
from ensdistill.storage import seals


class Run(NamedTuple):
  """A finished run."""

  label: str
  folder: pathlib.Path
  config: dict
  results: dict

  @property
  def rows(self) -> list[dict]:
    """The rows of results.json."""
    return self.results['rows']

  @property
  def students(self) -> list[dict]:
    """The student's rows; the view that the run was trained for is the first."""
    found = of_role(self.rows, *STUDENTS)
    return found[::-1] if self.config.get('student', {}).get('view') == 'averaged' else found

  @property
  def machine(self) -> str | None:
    """Processor, devices and versions that timed the run; None where they are not recorded."""
    versions = self.results.get('versions', {})
    return repr(sorted(versions.items())) if 'processor' in versions else None

  def named(self, row: dict, name: str = '') -> str:
    """Return the label of a student's row: `name`, by default the run's label, and the view."""
    name = name or self.label
    if row['role'] == AVERAGED:
      return f'{name} (averaged)'
    return name if row is self.students[0] else f'{name} (members)'


def read_runs(
  folders: Iterable[str | pathlib.Path], note: Callable[[str], None] = seals.print_error
) -> list[Run]:
  """Return the runs in these folders with distinct labels: the run's name, or its folder's."""
  runs = []
  for folder in map(pathlib.Path, folders):
    results = claims.results(folder, note=note)
    if results is None:
      if not folder.exists():
        raise ValueError(f'{folder} does not exist: name the folder of a finished run')
      raise ValueError(
        f'{folder} holds no finished run (no results.json): finish it by its own command, or leave '
        'it out'
      )
    config = seals.read_json(folder / 'config.json', remedy=claims.REMEDY)
    if config is None:
      raise seals.Damaged(folder / 'config.json', 'is missing', claims.REMEDY)
    runs.append(Run(results.get('name') or folder.name, folder, config, results))
  return _distinct(runs)


def _distinct(runs: list[Run]) -> list[Run]:
  """Return the runs with labels that differ: runs of one name are labelled by their folders."""
  for label in (_folder_name, _folder_path):
    labels = [run.label for run in runs]
    runs = [run._replace(label=label(run)) if labels.count(run.label) > 1 else run for run in runs]
  return runs


def _folder_name(run: Run) -> str:
  return run.folder.resolve().name


def _folder_path(run: Run) -> str:
  return str(run.folder)


def by_data(runs: Iterable[Run]) -> dict[str, list[Run]]:
  """Return {data set: its runs}; a table holds the runs of one data set."""
  groups: dict[str, list[Run]] = {}
  for run in runs:
    groups.setdefault(run.config['data']['name'], []).append(run)
  return groups
