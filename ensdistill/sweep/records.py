"""One small JSON file per finished run: all that tables need, without the run's folder."""

import json
import pathlib
from typing import Any

from ensdistill import runtime
from ensdistill.config import folder as claims
from ensdistill.config import identity, recipes
from ensdistill.evaluation.rows import ENSEMBLE, MEMBER, STUDENTS, largest_ensemble, of_role
from ensdistill.report.results import strict
from ensdistill.storage import safe, seals
from ensdistill.sweep.jobs import Job

FORMAT = 1
_DIGITS = 6  # significant ones of a metric


def make(job: Job, folder: pathlib.Path, seconds: float) -> dict[str, Any]:
  """Return the record of a job from the folder of its finished run."""
  results = claims.results(folder)
  if results is None:
    raise ValueError(f'{folder} holds no finished run (no readable results.json)')
  config = seals.read_json(folder / 'config.json', remedy=f'remove {folder}')
  assert config is not None, f'{folder} has results and no configuration'
  rows = results['rows']
  largest = largest_ensemble(rows)
  kept = [row for row in of_role(rows, MEMBER, ENSEMBLE) if row['role'] == MEMBER or row is largest]
  return strict(
    {
      'format': FORMAT,
      'method': job.kind.method,
      'data': job.kind.data,
      'variant': job.kind.variant,
      'settings': job.kind.settings,
      'teacher': job.teacher,
      'seed': job.seed,
      'view': config['student']['view'],
      'members': config['teacher']['members'],
      'ensemble': job.kind.ensemble,
      'data_content': config['data']['content'],
      'family': results.get('family'),
      'seconds': round(seconds, 1),
      'timings': {name: round(value, 2) for name, value in results['timings'].items()},
      'commit': runtime.commit(),
      'versions': results['versions'],
      'not_run': results['not_run'],
      'config_fingerprint': results['config_fingerprint'],
      'config': job.decisive,
      'rows': [_small(row) for row in [*kept, *of_role(rows, *STUDENTS)]],
    }
  )


def _small(row: dict) -> dict:
  """Return a row with fewer digits, and without standard errors that are not known."""
  errors = {key: _rounded(value) for key, value in row['se'].items() if value is not None}
  metrics = {key: _rounded(value) for key, value in row['metrics'].items()}
  return row | {'se': errors, 'metrics': metrics}


def _rounded(value: Any) -> Any:
  return float(f'{value:.{_DIGITS}g}') if isinstance(value, float) else value


def write(path: pathlib.Path, record: dict[str, Any]) -> None:
  """Write a record, with a line for each row and each group of settings."""
  lines = []
  for name, value in record.items():
    if name == 'rows':
      rows = ',\n  '.join(json.dumps(row, allow_nan=False) for row in value)
      lines.append(f' "rows": [\n  {rows}\n ]')
    else:
      lines.append(f' {json.dumps(name)}: {json.dumps(value, allow_nan=False)}')
  safe.write_atomic(path, '{\n' + ',\n'.join(lines) + '\n}\n')


def read(path: pathlib.Path) -> dict[str, Any]:
  """Return a record; raise ValueError if it is damaged or of another format."""
  try:
    record = json.loads(path.read_text())
    known = record['format'] == FORMAT and record['rows'] and record['method']
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} cannot be read ({error}): remove it, and run the sweep again'
    ) from None
  if not known:
    raise ValueError(f'{path} is not the result of a sweep of format {FORMAT}: remove it')
  return record


def read_all(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Return all records of a folder, in order."""
  found = sorted(folder.glob('*.json'))
  if not found:
    raise ValueError(f'{folder} holds no results of a sweep (no .json file)')
  return ordered([read(path) for path in found])


def ordered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Return records in the order of the methods in `ensdistill list`, then as they are."""
  places = {method: place for place, method in enumerate(recipes.METHODS)}
  return sorted(found, key=lambda record: places.get(record['method'], len(places)))


def check(path: pathlib.Path, job: Job) -> None:
  """Raise ValueError unless a record was made with the settings of this job."""
  changed = identity.differences(read(path)['config'], _as_stored(job.decisive))
  if changed:
    raise ValueError(
      f'{path} was made with other settings ({"; ".join(changed)}): choose another --out, or '
      f'remove it and {path.parent.parent / "runs" / job.name}'
    )


def check_data(path: pathlib.Path, job: Job, content: str) -> None:
  """Raise ValueError if a record was made with data of another digest; old records have none."""
  stored = read(path).get('data_content')
  if stored and stored != content:
    raise ValueError(
      f'{path} was made with other data of the name {job.kind.config.data.name}: choose another '
      f'--out, or remove it and {path.parent.parent / "runs" / job.name}'
    )


def _as_stored(settings: dict) -> dict:
  return json.loads(json.dumps(strict(settings)))
