"""The end of a run: pictures, report.html, TensorBoard's summary, and finally results.json.

results.json is strict JSON and is written last: a folder that has one holds a finished run.
"""

import pathlib
import shlex
import sys
import time

from ensdistill import names, runtime, stopping
from ensdistill.config import identity, settings
from ensdistill.config.build import Plan
from ensdistill.evaluation.rows import AVERAGED, STUDENT, of_role
from ensdistill.logs import events, writers
from ensdistill.report import columns, verdict
from ensdistill.report.pages import write_pages
from ensdistill.report.runs import Run
from ensdistill.storage import safe, seals
from ensdistill.storage.seals import strict


def write(
  plan: Plan,
  compared,
  probes,
  *,
  timings: dict[str, float],
  writer: writers.Silent,
  made_by: dict | None = None,
  coverage: dict[str, str] | None = None,
) -> dict:
  """Write the report of a finished run into its folder; return the content of results.json.

  Args:
    plan: of the run.
    compared: what `compare.compare` returned.
    probes: what `report.collect` returned.
    timings: seconds of each stage.
    writer: of the run.
    made_by: what made the results; by default without the teacher's fingerprint.
    coverage: {row: a sentence on the coverage of its prediction sets or intervals}.
  """
  began = time.monotonic()
  folder, config, dataset = plan.folder, plan.config, plan.dataset
  pictured, seen = shown(config, compared, probes)
  results = strict(
    {
      'name': config.name,
      'family': dataset.family,
      'rows': compared.rows,
      'not_run': compared.not_run,
      'coverage': coverage or {},
      'timings': timings,
      'config_fingerprint': identity.fingerprint(identity.decisive(config)),
      'pictures': draw(folder, dataset, pictured, seen, writer),
      'versions': runtime.versions(),
      'command': command(),
      seals.MADE_BY: made_by or identity.made_by(config, data=dataset.fingerprint),
    }
  )
  run = Run(config.name or folder.name, folder, identity.to_json(config), results)
  writer.text('report/table', write_pages([run], folder / 'report.html'))
  metrics = final(results['rows'], config.student.view)
  writer.hparams(run.config, metrics, events.Columns(changed(run.config), columns.known()))
  results['timings']['report'] = time.monotonic() - began
  seals.write_json(folder / 'results.json', results)
  return results


def final(rows: list[dict], view: str = 'members') -> dict[str, float]:
  """Return the student's metrics of table and verdict, those of the table's main columns first."""
  (student,) = of_role(rows, AVERAGED if view == 'averaged' else STUDENT)
  metrics = student['metrics']
  shown = sorted(columns.table_columns(rows), key=columns.is_rare)
  keys = [column.key for column in shown]
  keys += [f'gap_closed/{gap.metric}' for gap in verdict.gaps(rows, student).closed]
  return {key: metrics[key] for key in keys if metrics.get(key) is not None}


def changed(config: dict) -> set[str]:
  """Return the names of the settings that differ from their defaults."""
  known = names.flatten(identity.to_json(settings.default()))
  return {name for name, value in names.flatten(config).items() if value != known.get(name)}


def shown(config, compared, probes):
  """Return what pictures show: the averaged student only where it was trained for averaging."""
  if config.student.view == 'averaged':
    return compared, probes
  hidden = {row['name'] for row in of_role(compared.rows, AVERAGED)}
  compared = compared._replace(
    rows=[row for row in compared.rows if row['name'] not in hidden],
    models=[model for model in compared.models if model.name not in hidden],
  )
  spaces = {'plane': probes.plane, 'line': probes.line}
  for name, space in spaces.items():
    if space is not None:
      found = {model: p for model, p in space.predictives.items() if model not in hidden}
      spaces[name] = space._replace(predictives=found)
  return compared, probes._replace(**spaces)


def draw(folder: pathlib.Path, dataset, compared, probes, writer: writers.Silent) -> dict[str, str]:
  """Write every picture that applies as figures/NAME.png and .svg; return {name: caption}.

  NAME-narrow.svg is for phones.
  """
  from ensdistill.report import figures  # imports matplotlib
  from ensdistill.report.figures import style

  context = figures.Context(dataset, compared.rows, compared.models, probes)
  drawn = {}
  for name in figures.FIGURES:
    stopping.check()
    try:
      figure = figures.draw(name, context)
      if figure is None:
        continue
      png, wide = style.png(figure), style.svg(figure)
      narrow = style.svg(figures.draw(name, context, narrow=True))
      pixels = style.pixels(png)
    except Exception as error:  # a failed picture must not lose hours of training
      writer.line(f'warning: the picture {name!r} could not be drawn: {error!r}')
      continue
    for end, content in {'.png': png, '.svg': wide, '-narrow.svg': narrow}.items():
      safe.write_atomic(folder / 'figures' / f'{name}{end}', content)
    writer.image(f'report/{name}', pixels)
    drawn[name] = figures.caption(name)
  return drawn


def command() -> str | None:
  """Return the command line that started the run; None if another program called the package."""
  program, *arguments = sys.argv
  parts = pathlib.Path(program).parts[-2:]
  if parts == ('ensdistill', 'main.py'):
    return shlex.join(['python', '-m', 'ensdistill.main', *arguments])
  if parts == ('ensdistill', '__main__.py') or parts[-1:] == ('ensdistill',):
    return shlex.join(['ensdistill', *arguments])
  return None
