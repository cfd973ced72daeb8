"""results.json: strict JSON, written once at the end of a run, read by every later one."""

import json
import math
import pathlib

from ensdistill import config as config_lib
from ensdistill import safe


def write(folder: pathlib.Path, config, compared, timings: dict, writer) -> dict:
  """Writes results.json and the run's hyper-parameters with its final metrics."""
  decisive = config_lib.decisive(config)
  results = {
    'name': config.name,
    'rows': compared.rows,
    'not_run': compared.not_run,
    'timings': timings,
    'config_fingerprint': config_lib.fingerprint(decisive),
  }
  results = strict(results)
  text = json.dumps(results, indent=2, allow_nan=False)
  safe.write_atomic(folder / 'results.json', text + '\n')
  final = {row['name']: row['metrics'] for row in results['rows']}
  name = 'student-averaged' if 'student-averaged' in final else 'student'
  shown = {k: v for k, v in final[name].items() if v is not None}
  writer.hparams(config_lib.to_json(config), shown)
  return results


def load(folder: pathlib.Path, decisive: dict | None = None) -> dict | None:
  """The results of a finished run, if there are any (of these settings)."""
  path = pathlib.Path(folder) / 'results.json'
  if not path.exists():
    return None
  try:
    results = json.loads(path.read_text())
  except ValueError:
    return None
  if decisive and results.get('config_fingerprint') != config_lib.fingerprint(decisive):
    return None
  return results


def strict(value):
  """JSON without NaN or infinity: null in their place."""
  if isinstance(value, dict):
    return {k: strict(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [strict(v) for v in value]
  if hasattr(value, 'item'):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
