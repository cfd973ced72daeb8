"""The tables of a sweep, from its records: Markdown, LaTeX, HTML, CSV and TensorBoard's HPARAMS."""

import csv
import io
import pathlib
import shutil
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ensdistill.logs import events
from ensdistill.report import columns, html, latex, tables
from ensdistill.report.columns import Column
from ensdistill.report.tables import Row
from ensdistill.storage import safe
from ensdistill.sweep import models, statistics
from ensdistill.sweep.models import Group, Model


class Table(NamedTuple):
  """A table with its title and notes."""

  title: str
  rows: list[Row]
  shown: list[Column]
  notes: list[str]
  marked: tables.Marked


def write(folder: pathlib.Path, records: Sequence[dict], baseline: str | None) -> str:
  """Write summary.md, .tex, .html, .csv, runs.csv and tb/ into a folder.

  Return the first table of each data set as Markdown.
  """
  groups = models.by_data(records)
  own = [of_group(group, baseline) for group in groups]
  made = [table for group in own for table in group] + ranks(groups)
  files = {
    'summary.md': as_markdown(made),
    'summary.tex': as_latex(made),
    'summary.html': as_html(made),
    'summary.csv': summary_csv(groups, baseline),
    'runs.csv': runs_csv(records),
  }
  for name, file in files.items():
    safe.write_atomic(folder / name, file)
  write_hparams(folder / 'tb', records)
  return as_markdown([group[0] for group in own])


def markdown(records: Sequence[dict], baseline: str | None) -> str:
  """Return all tables as Markdown."""
  groups = models.by_data(records)
  own = [of_group(group, baseline) for group in groups]
  return as_markdown([table for group in own for table in group] + ranks(groups))


def chosen(
  group: Group,
  shown: Sequence[Column],
  baseline: str | None,
  labels: Collection[str] | None = None,
) -> Table:
  """Return one table of a data set with these columns; labels: of its models, all by default."""
  own_models = [m for m in group.models if m.primary and (labels is None or m.label in labels)]
  rows = [group.row(model) for model in own_models]
  own = [*models.RUNS, *columns.present([r.row for r in rows], shown)]
  notes = [spread_note(group), f'Bold: {_reference(baseline)}.']
  notes += missing(group, own_models, own)
  return Table(group.title, rows, own, notes, _better(group, own_models, baseline))


def check_baseline(records: Sequence[dict], baseline: str | None) -> None:
  """Raise ValueError if no student is the baseline."""
  known = {m.method for g in models.by_data(records) for m in g.students()}
  known |= {m.label for g in models.by_data(records) for m in g.students()}
  if baseline is not None and baseline not in known:
    raise ValueError(f'--baseline={baseline} is not among the students: {", ".join(sorted(known))}')


def of_group(group: Group, baseline: str | None) -> list[Table]:
  """Return the tables of one data set: by topic, training inputs, other views, differences."""
  shown = [m for m in group.models if m.primary]
  rows = [group.row(model) for model in shown]
  marked = _better(group, shown, baseline)
  found: list[Table] = []
  for topic, own in columns.groups([row.row for row in rows]).items():
    own = [_unranked(c) for c in own if not c.key.startswith(columns.TIME.key)]
    notes = []
    if not found:  # the first table explains the others
      own = [*models.RUNS, *own, *columns.present([row.row for row in rows], [columns.GAP])]
      notes = [spread_note(group), f'Bold: {_reference(baseline)}.']
    notes += missing(group, shown, own)
    found.append(Table(f'{group.title}: {topic}', rows, own, notes, marked))
  training = columns.training([row.row for row in rows])
  if training:
    note = [tables.training_note(rows)]
    found.append(Table(f'{group.title}: training inputs', rows, training, note, _nothing))
  others = [group.row(model) for model in group.students(primary=False)]
  if others:
    own = [*models.RUNS, *columns.present([row.row for row in others], columns.QUALITY)]
    title = f'{group.title}: views of the students that they were not trained for'
    found.append(Table(title, others, own, [], _nothing))
  compared = differences(group, baseline)
  return [*found, compared] if compared else found


def _unranked(column: Column) -> Column:
  """Return a column of costs without an arrow: costs are not compared with the baseline's."""
  return column._replace(better='') if column in columns.COST else column


def _reference(baseline: str | None) -> str:
  other = baseline or 'one member'
  return f'better than {other} by more than two standard errors of the paired difference'


def _nothing(rows: list[Row], column: Column) -> set[int]:
  del rows, column
  return set()


def spread_note(group: Group) -> str:
  """Return what the standard errors are over."""
  teachers = len({record['teacher'] for record in group.records})
  if teachers > 1:
    return 'Mean ± standard error over the means of the teachers (their seeds are averaged).'
  return (
    'One teacher: mean ± standard error over the seeds of students, and over members. It says '
    'nothing about other teachers.'
  )


def missing(group: Group, shown: Sequence[Model], own: Sequence[Column]) -> list[str]:
  """Return a note for each mean that is not over all runs of its row."""
  notes = []
  for model in shown:
    for column in own:
      if column in models.RUNS or column.key.startswith('gap_closed/'):
        continue
      found = group.estimate(model, column.key)
      count, of = found.runs if found else 0, len(model.metrics)
      if 0 < count < of:
        over = f'the mean is over the {count} of {of} runs with a finite value'
        notes.append(f'{model.label}, {column.title}: {over}.')
  return notes


def _better(group: Group, shown: list[Model], baseline: str | None) -> tables.Marked:
  """Return which students are better than the baseline by more than two standard errors."""

  def marked(rows: list[Row], column: Column) -> set[int]:
    del rows
    if not column.better:
      return set()
    return {i for i, m in enumerate(shown) if m.student and leads(group, m, baseline, column)}

  return marked


def leads(group: Group, model: Model, baseline: str | None, column: Column) -> bool:
  """Return whether a student is better than its baseline by more than two standard errors."""
  other = models.baseline_of(group, model, baseline)
  if other is None or other is model:
    return False
  found = models.difference(model, other, column.key)
  return found is not None and found.told(column.better) > 0


def differences(group: Group, baseline: str | None) -> Table | None:
  """Return the table of paired differences from the baseline; None where there are none."""
  quality = [*columns.QUALITY, *columns.CALIBRATION, *columns.UNCERTAINTY]
  rows, compared = [], []
  for model in group.students():
    other = models.baseline_of(group, model, baseline)
    if other is None or other is model:
      continue
    found = {c.key: models.difference(model, other, c.key) for c in quality if c.better}
    known = {key: estimate for key, estimate in found.items() if estimate}
    metrics: dict = {key: estimate.mean for key, estimate in known.items()}
    if known:
      most = max(known.values(), key=lambda estimate: estimate.runs)
      metrics |= {'teachers': most.teachers, 'runs': most.runs}
    errors = {key: estimate.error for key, estimate in known.items()}
    row = {'name': model.label, 'role': model.role, 'size': model.size}
    rows.append(Row(model.label, row | {'se': errors, 'metrics': metrics}))
    compared.append(model)
  if not rows:
    return None
  shown = [*models.RUNS, *map(_signed, columns.present([r.row for r in rows], quality))]
  notes = ['Each run is compared with the run of the same teacher and seed.']
  title = f'{group.title}: paired differences from {baseline or "one member"}'
  return Table(title, rows, shown, notes, _better(group, compared, baseline))


def _signed(column: Column) -> Column:
  form, error = column.form, column.error or column.form

  def signed(value: float) -> str:
    return f'{"+" if value > 0 else ""}{form(value)}'

  return column._replace(form=signed, error=error)


ALPHA = 0.05


def ranks(groups: list[Group]) -> list[Table]:
  """Return the table of mean ranks over the blocks of all data sets that have all students."""
  labels = [m.label for m in groups[0].students()] if groups else []
  labels = [name for name in labels if all(_student(g, name) for g in groups)]
  if len(labels) < 2:
    return []
  found: dict[str, statistics.Ranks] = {}
  shown, notes = [], []
  for column in [*columns.QUALITY, *columns.CALIBRATION, *columns.UNCERTAINTY]:
    if not column.better:
      continue
    values = []
    for group in groups:
      own = [m for name in labels if (m := _student(group, name))]
      values += models.blocks(own, column.key)
    result = statistics.ranks(values, column.better == 'higher', ALPHA) if values else None
    if result:
      found[column.key] = result
      shown.append(Column(column.key, column.title, columns.fixed(2)))
      notes.append(
        f'{column.title}: critical difference {result.critical_difference:.2f} over '
        f'{result.blocks} blocks, Friedman {_p_value(result.p_value)}.'
      )
  if not found:
    return []
  rows = []
  for i, name in enumerate(labels):
    metrics = {key: result.ranks[i] for key, result in found.items()}
    rows.append(Row(name, {'name': name, 'role': 'student', 'se': {}, 'metrics': metrics}))
  several = any(len({r['teacher'] for r in group.records}) > 1 for group in groups)
  block = 'a teacher (the mean over its seeds)' if several else 'a seed of the one teacher'
  head = (
    f'1 is the best. A block is {block} on a data set. Mean ranks that differ by less than the '
    f'critical difference (Nemenyi, α = {ALPHA}) are not separated.'
  )
  return [Table('Mean ranks of the students', rows, shown, [head, *notes], _nothing)]


def _p_value(value: float) -> str:
  return f'p = {value:.2g}' if value >= 0.001 else 'p < 0.001'


def _student(group: Group, label: str) -> Model | None:
  return next((m for m in group.students() if m.label == label), None)


def as_markdown(made: list[Table]) -> str:
  """Return the tables as Markdown."""
  return '\n'.join(f'## {table.title}\n\n{as_text(table)}' for table in made)


def as_text(table: Table) -> str:
  """Return a table as Markdown, with its notes and without its title."""
  notes = ''.join(f'\n{note}\n' for note in table.notes)
  return tables.grid(table.rows, table.shown, table.marked) + notes


def as_latex(made: list[Table]) -> str:
  """Return the tables for LaTeX, each split so that it fits on a page."""
  parts = [latex.PACKAGE]
  for table in made:
    labels = [row.label for row in table.rows]
    for number, piece in enumerate(latex.pieces_of(table.rows, labels, table.shown)):
      caption = f'{table.title}{f" ({number + 1})" if number else ""}.'
      notes = table.notes if not number else []
      parts.append(latex.table(table.rows, labels, piece, caption, notes, table.marked))
  return '\n'.join(parts)


def as_html(made: list[Table]) -> str:
  """Return one page with the tables."""
  sections = [
    (
      table.title,
      html.grid(table.rows, {'': table.shown}, table.marked, label=table.title),
      table.notes,
    )
    for table in made
  ]
  return html.tables_page('Results of a sweep', sections)


def summary_csv(groups: list[Group], baseline: str | None) -> str:
  """Return a line for each data set, model and metric, with its difference from the baseline."""
  head = ('data', 'model', 'role', 'method', 'metric', 'mean', 'se', 'teachers', 'runs')
  head += ('difference', 'difference_se', 'baseline')
  lines: list[Sequence] = [head]
  for group in groups:
    for model in group.models:
      row = group.row(model).row
      other = models.baseline_of(group, model, baseline) if model.student else None
      for metric, mean in row['metrics'].items():
        if metric in ('teachers', 'runs') or mean is None:
          continue
        start = (group.title, model.label, model.role, model.method, metric)
        found = models.difference(model, other, metric) if other else None
        apart = (found.mean, found.error, other.label) if found and other else ('', '', '')
        counts = row['metrics']['teachers'], row['metrics']['runs']
        lines.append([*start, mean, row['se'].get(metric), *counts, *apart])
  return _csv(lines)


def runs_csv(records: Sequence[dict]) -> str:
  """Return a line for each row of each run, with all of its metrics."""
  settings = list({name: None for record in records for name in record['settings']})
  metrics = list({name: None for r in records for row in r['rows'] for name in row['metrics']})
  head = ['data', 'variant', 'method', *settings, 'teacher', 'seed', 'row', 'seconds', *metrics]
  lines: list[Sequence] = [head]
  for record in records:
    own = [record['settings'].get(name) for name in settings]
    for row in record['rows']:
      start = [record['data'], record['variant'], record['method'], *own]
      start += [record['teacher'], record['seed'], row['name'], record['seconds']]
      lines.append([*start, *(row['metrics'].get(name) for name in metrics)])
  return _csv(lines)


def _csv(lines: Sequence[Sequence]) -> str:
  buffer = io.StringIO()
  csv.writer(buffer, lineterminator='\n').writerows(lines)
  return buffer.getvalue()


def write_hparams(folder: pathlib.Path, records: Sequence[dict]) -> None:
  """Write a row of TensorBoard's HPARAMS tab for each run: what was varied, and final metrics."""
  shutil.rmtree(folder, ignore_errors=True)
  for record in records:
    settings = {name: record[name] for name in ('method', 'data', 'variant', 'teacher', 'seed')}
    rows = [r for r in record['rows'] if r['role'] == _view(record)]
    shown = {c.key for group in columns.groups(rows).values() for c in group}
    shown |= {k for k in rows[0]['metrics'] if k.startswith('gap_closed/')}
    final = {k: v for k, v in sorted(rows[0]['metrics'].items()) if k in shown and v is not None}
    name = f'{models.data_title(record)} {models.kind_label(record)}'.replace('/', '-')
    name = f'{name} t{record["teacher"]} s{record["seed"]}'
    content = events.hparams(settings | record['settings'], final, trial=name)
    safe.write_atomic(folder / name / events.file_name(), content)


def _view(record: dict) -> str:
  return models.AVERAGED if record['view'] == 'averaged' else models.STUDENT


def line(record: dict) -> str:
  """Return the main metrics of a finished run."""
  (row,) = [r for r in record['rows'] if r['role'] == _view(record)][:1]
  shown: list[Column] = columns.present([row], columns.QUALITY)[:3]
  return ', '.join(f'{c.title} {tables.cell(row, c)}' for c in shown)
