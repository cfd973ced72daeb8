"""The end of a run: pictures, report.html, TensorBoard's summary, and last of all results.json.

results.json is strict JSON and read by every later run: where it lies, the run is finished.
"""

import json
import math
import pathlib
import shlex
import sys
import time

from ensdistill import runtime
from ensdistill.config import identity
from ensdistill.storage import safe


def write(folder: pathlib.Path, config, dataset, compared, probes, timings: dict, writer) -> dict:
  """Draws and writes everything that a finished run shows; -> what results.json says."""
  from ensdistill.report import html, latex, tables
  from ensdistill.report.runs import Run

  began, folder = time.monotonic(), pathlib.Path(folder)
  decisive = identity.decisive(config)
  results = strict(
    {
      'name': config.name,
      'rows': compared.rows,
      'not_run': compared.not_run,
      'timings': timings,
      'config_fingerprint': identity.fingerprint(decisive),
      'pictures': draw(folder, dataset, *shown(config, compared, probes), writer),
      'versions': runtime.versions(),
      'command': command(),
    }
  )
  run = Run(config.name or folder.name, folder, identity.to_json(config), results)
  safe.write_atomic(folder / 'report.html', html.page([run]))
  table = tables.markdown([run])
  safe.write_atomic(folder / 'report.md', table)
  safe.write_atomic(folder / 'report.tex', latex.tables([run]))
  writer.text('report/table', table)
  writer.hparams(run.config, final(results['rows'], config.student.view))
  results['timings']['report'] = time.monotonic() - began
  text = json.dumps(results, indent=2, allow_nan=False)
  safe.write_atomic(folder / 'results.json', text + '\n')
  return results


def final(rows, view: str = 'members') -> dict[str, float]:
  """The student's metrics that the table and the verdict show: columns of the HPARAMS tab."""
  from ensdistill.report import columns, verdict

  found = {row['name']: row for row in rows}
  student = found['student-averaged' if view == 'averaged' else 'student']
  metrics = student['metrics']
  keys = [column.key for column in columns.table_columns(rows)]
  keys += [f'gap_closed/{gap.metric}' for gap in verdict.gaps(rows, student).closed]
  return {key: metrics[key] for key in keys if metrics.get(key) is not None}


def shown(config, compared, probes):
  """What pictures show: not the average of students that were not trained to be averaged."""
  if config.student.view == 'averaged':
    return compared, probes
  keep = lambda name: name != 'student-averaged'
  compared = compared._replace(
    rows=[row for row in compared.rows if keep(row['name'])],
    models=[model for model in compared.models if keep(model.name)],
  )
  spaces = {'plane': probes.plane, 'line': probes.line}
  for name, space in spaces.items():
    if space is not None:
      found = {model: p for model, p in space.predictives.items() if keep(model)}
      spaces[name] = space._replace(predictives=found)
  return compared, probes._replace(**spaces)


def draw(folder: pathlib.Path, dataset, compared, probes, writer) -> dict[str, str]:
  """Writes every picture that applies, as figures/NAME.png and .svg; -> {name: caption}."""
  from ensdistill.report import figures
  from ensdistill.report.figures import style

  context = figures.Context(dataset, compared.rows, compared.models, probes)
  drawn = {}
  for name in figures.names(dataset.family):
    try:
      figure = figures.draw(name, context)
    except Exception as error:  # hours of training shall not be lost to a picture
      writer.line(f'warning: the picture {name!r} could not be drawn: {error!r}')
      continue
    if figure is None:
      continue
    png = style.png(figure)
    safe.write_atomic(folder / 'figures' / f'{name}.png', png)
    safe.write_atomic(folder / 'figures' / f'{name}.svg', style.svg(figure))
    writer.image(f'report/{name}', style.pixels(png))
    drawn[name] = figures.caption(name, dataset.family)
  return drawn


def command() -> str | None:
  """The command line that this run was started with; None where it was not the package's own."""
  program, *arguments = sys.argv
  parts = pathlib.Path(program).parts[-2:]
  if parts == ('ensdistill', 'main.py'):
    return shlex.join(['python', '-m', 'ensdistill.main', *arguments])
  if parts == ('ensdistill', '__main__.py') or parts[-1:] == ('ensdistill',):
    return shlex.join(['ensdistill', *arguments])
  return None


def load(folder: pathlib.Path, decisive: dict | None = None) -> dict | None:
  """The results of a finished run, if there are any (of these settings)."""
  path = pathlib.Path(folder) / 'results.json'
  if not path.exists():
    return None
  try:
    results = json.loads(path.read_text())
  except ValueError:
    return None
  if decisive and results.get('config_fingerprint') != identity.fingerprint(decisive):
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
