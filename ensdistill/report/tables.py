"""Results as text: a table for the terminal, and a Markdown table of any number of runs."""

import math
import textwrap
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ensdistill.evaluation.gaps import TOLD
from ensdistill.evaluation.rows import ENSEMBLE, MEMBER, STUDENTS, largest_ensemble, of_role
from ensdistill.report import columns, noise
from ensdistill.report.columns import Column
from ensdistill.report.runs import Run, by_data


class Row(NamedTuple):
  """A row of a table over several runs."""

  label: str
  row: dict  # as in results.json
  origin: str = ''  # label of the run, where another run has another row of the same name
  machine: str | None = None  # that timed the row, where runs are compared and it is known
  run: str = ''  # label of the run
  teacher: tuple = ()  # equal for runs with the same teacher and test set

  @property
  def student(self) -> bool:
    """Whether the row is a student's."""
    return self.row['role'] in STUDENTS


WIDTH = 80  # characters of a terminal
TESTED = ('acc', 'rmse')  # metrics that show the error of the test examples


def table(results: dict, wide: bool = False) -> str:
  """Return one line per row of a run, in 80 characters, or with all columns of the quality.

  Columns are left out from the right, except for the share of the gap; accuracy and RMSE have their
  standard errors.
  """
  rows = some_ensembles(results['rows'])
  text, whole = _lines([Row(row['name'], row) for row in rows], wide)
  legend = _legend(rows, whole)
  covered = [f'{name}: {line}' for name, line in results.get('coverage', {}).items()]
  took = ', '.join(f'{name} {value:.0f} s' for name, value in results['timings'].items())
  notes = [*covered, legend, f'took: {took}']
  return '\n'.join([*text, *(notes if wide else _wrapped(notes))])


def narrow(runs: list[Run]) -> str:
  """Return the main columns of runs in 80 characters, a table for each data set."""
  parts = []
  for name, group in by_data(runs).items():
    rows = joined(group)
    text, whole = _lines(rows, wide=False)
    legend = _wrapped([_legend([row.row for row in rows], whole)])
    parts.append('\n'.join([*([name] if len(runs) > 1 else []), *text, *legend]))
  return '\n\n'.join(parts)


def _lines(rows: list[Row], wide: bool) -> tuple[list[str], bool]:
  """Return the lines of a table for the terminal, and whether it has all columns."""
  values = [row.row for row in rows]
  shown = columns.present(values, columns.QUALITY)
  shown += columns.present(values, [columns.PARAMETERS, *columns.COST[2:], columns.GAP])
  lines = [['', *(column.title for column in shown)]]
  for row in rows:
    tested = [cell(row.row, c) if wide or c.key in TESTED else _value(row.row, c) for c in shown]
    lines.append([row.label, *tested])
  by_column = list(zip(*lines))
  while not wide and sum(max(map(len, c)) + 2 for c in by_column) > WIDTH + 2:
    if len(by_column) <= 3:
      break
    del by_column[-2 if shown[-1] is columns.GAP else -1]
  widths = [max(map(len, column)) for column in by_column]
  text = [
    '  '.join(_align(c, w, i) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
    for line in zip(*by_column)
  ]
  text.insert(1, '-' * max(map(len, text)))
  return text, len(by_column) == len(lines[0])


def _wrapped(notes: list[str]) -> list[str]:
  return [line for note in notes for line in textwrap.wrap(note, WIDTH, subsequent_indent='  ')]


def _legend(rows: list[dict], whole: bool) -> str:
  """Return what a reader must know of a table for the terminal."""
  notes = []
  if columns.present(rows, [columns.GAP]):
    notes.append('gap closed: share of the distance in NLL from one member to the ensemble.')
  elif of_role(rows, ENSEMBLE) and of_role(rows, *STUDENTS):
    notes.append('gap closed: no column, as member and ensemble do not differ in NLL beyond noise.')
  notes += ['± is one standard error over repeats and test examples.']
  notes += [] if whole else ['More columns: `ensdistill report RUN --wide`.']
  return ' '.join(notes)


def some_ensembles(rows: list[dict]) -> list[dict]:
  """Return all rows; of more than eight ensembles only sizes 2, 4, 8, 16 ... and the largest."""
  sizes = [row['size'] for row in of_role(rows, ENSEMBLE)]
  if len(sizes) <= 8:
    return rows
  keep = {2**i for i in range(1, 20)} | {max(sizes)}
  return [row for row in rows if row['role'] != ENSEMBLE or row['size'] in keep]


def _align(text: str, width: int, column: int) -> str:
  return text.rjust(width) if column else text.ljust(width)


def _value(row: dict, column: Column) -> str:
  """Return a metric of a row as text; '-' if missing."""
  value = row['metrics'].get(column.key)
  return '-' if value is None else column.form(value)


def cell(row: dict, column: Column) -> str:
  """Return a metric of a row as text, with its standard error or spread; '-' if missing.

  Accuracies and RMSE have the error of the test examples in it, other metrics that of the repeats.
  """
  value = row['metrics'].get(column.key)
  if value is None:
    return '-'
  tested = column.key.rpartition('/')[2] in TESTED
  error = noise.of_row(row, column.key) if tested else noise.of_repeats(row, column.key)
  if not error:
    return column.form(value)
  if column.both:
    return column.both(value, error)
  return f'{column.form(value)} ± {(column.error or column.form)(error)}'


def joined(runs: list[Run]) -> list[Row]:
  """Return the rows of several runs; rows that the runs share (their teacher's) appear once.

  Of several runs each shows one student; `others` returns the other views.
  """
  if len(runs) > 1:
    return _teachers(runs) + [_student(run, run.students[0]) for run in runs if run.students]
  (run,) = runs
  return _teachers(runs) + [
    Row(run.named(row, 'student'), row, run=run.label, teacher=_teacher(run))
    for row in run.students
  ]


def _teacher(run: Run) -> tuple:
  """Return what runs with the same teacher and test set have in common."""
  rows = [*of_role(run.rows, MEMBER), *filter(None, [largest_ensemble(run.rows)])]
  return (
    run.config['data']['name'],
    *((row['name'], row['metrics'].get('nll'), row['metrics'].get('cnll')) for row in rows),
  )


def _teachers(runs: list[Run]) -> list[Row]:
  """Return the rows of members and ensembles, each once."""
  rows: list[Row] = []
  seen = set()
  for run in runs:
    for row in some_ensembles(of_role(run.rows, MEMBER, ENSEMBLE)):
      same = row['name'], row['metrics'].get('nll'), row['metrics'].get('cnll')
      if same in seen:
        continue
      seen.add(same)
      clash = any(other.row['name'] == row['name'] for other in rows)
      label = f'{row["name"]} [{run.label}]' if clash else row['name']
      origin = run.label if clash else ''
      found = Row(label, row, origin, run=run.label, teacher=_teacher(run))
      rows.append(_timed(run, found) if len(runs) > 1 else found)
  return rows


def others(runs: list[Run]) -> list[Row]:
  """Return the views of students that `joined` leaves out.

  They are the averages of students that were not trained for averaging, and the members of students
  that were.
  """
  return [_student(run, row) for run in runs for row in run.students[1:] if len(runs) > 1]


def _student(run: Run, row: dict) -> Row:
  return _timed(run, Row(run.named(row), row, run=run.label, teacher=_teacher(run)))


def _timed(run: Run, row: Row) -> Row:
  """Return the row with its time relative to one member, which the same run has timed."""
  metrics, key = dict(row.row['metrics']), columns.TIME.key
  member: dict = next(iter(of_role(run.rows, MEMBER)), {'metrics': {}})
  ours, unit = metrics.get(key), member['metrics'].get(key)
  spreads = [m.get(f'{key}/spread') or 0.0 for m in (metrics, member['metrics'])]
  metrics = {k: v for k, v in metrics.items() if not k.startswith(key)}
  if ours and unit:
    ratio = ours / unit
    metrics[columns.RELATIVE_TIME] = ratio
    if row.row['role'] != MEMBER and any(spreads):
      spread = ratio * math.hypot(spreads[0] / ours, spreads[1] / unit)
      metrics[f'{columns.RELATIVE_TIME}/spread'] = spread
  return row._replace(row=row.row | {'metrics': metrics}, machine=run.machine)


EXACT = (columns.PARAMETERS.key, 'flops')  # columns without noise


def best(rows: list[Row], column: Column) -> set[int]:
  """Return the indices of the best rows of a column: of the students, or of all if there is one.

  These are the best value and all that cannot be told from it: their difference is below two
  standard errors. There are none where nothing is told from the best, or the noise is not known.
  """
  if not column.better:
    return set()
  if column.key == columns.RELATIVE_TIME and not comparable(rows):
    return set()
  rivals = [i for i, row in enumerate(rows) if row.student]
  if len(rivals) < 2:
    rivals = [i for i, row in enumerate(rows) if not row.row.get('subsets')]
  values = {i: rows[i].row['metrics'].get(column.key) for i in rivals}
  values = {i: value for i, value in values.items() if value is not None}
  if len(values) < 2:
    return set()
  sign = 1 if column.better == 'higher' else -1
  top = max(values, key=lambda i: sign * values[i])
  told = {i for i in values if i != top and differ(rows[top], rows[i], column)}
  return set(values) - told if told else set()


def differ(ours: Row, theirs: Row, column: Column) -> bool:
  """Return whether the values of two rows are told from noise; False where noise is not known."""
  values = [row.row['metrics'].get(column.key) for row in (ours, theirs)]
  if None in values:
    return False
  if column.key in EXACT:
    return column.form(values[0]) != column.form(values[1])
  same_teacher = ours.teacher == theirs.teacher != ()
  known = {'same_run': ours.run == theirs.run != '', 'same_teacher': same_teacher}
  error = noise.of_difference(ours.row, theirs.row, column.key, **known)
  return error is not None and abs(values[0] - values[1]) > TOLD * error


# (rows, column) -> indices of the rows whose cells are in bold
Marked = Callable[[list[Row], Column], set[int]]


def comparable(rows: Iterable[Row]) -> bool:
  """Return whether the students were timed on one machine, with the same versions."""
  machines = {row.machine for row in rows if row.student}
  return len(machines) == 1 and machines != {None}


def time_note(rows: list[Row]) -> str | None:
  """Return a note about the times of several runs; None where there are no relative times."""
  if not any(columns.RELATIVE_TIME in row.row['metrics'] for row in rows):
    return None
  note = 'Times are relative to one member, timed alternately with it in the same run.'
  if comparable(rows):
    return f'{note} All runs had the same machine and versions.'
  return (
    f'{note} The runs had different machines or versions, or did not record them: milliseconds '
    'are not compared, and no time is marked as the best.'
  )


def bold_note(rows: list[Row]) -> str:
  """Return the note that explains bold cells."""
  several = sum(row.student for row in rows) > 1
  return (
    f'Bold: the best {"student" if several else "model"} of a column, with all that differ from it '
    'by less than two standard errors; none where nothing is told from noise.'
  )


def error_note(rows: list[Row]) -> str | None:
  """Return the note that explains ±, where there is one."""
  subsets = [row.row['size'] for row in rows if row.row.get('subsets')]
  notes = ['±: one standard error over members, or over students of several seeds']
  if any(row.row.get('test_se') for row in rows):
    notes[0] += '; of accuracies and RMSE also over the test examples'
  if any(f'{columns.TIME.key}/spread' in row.row['metrics'] for row in rows):
    notes[0] += '; of times half their interquartile range'
  if subsets:
    notes.append('Ensembles of some of the members are averages over subsets of members')
  return '. '.join(notes) + '.'


def shift_note(rows: list[Row]) -> str | None:
  """Return the note on shift metrics of the package's own corruptions, if there are any."""
  return columns.shift_note(row.row['metrics'] for row in rows)


TRAINING = 'On the training inputs'


def training_note(rows: list[Row]) -> str:
  """Return what the table of the training inputs shows, by the measure of disagreement it has."""
  measure = 'div. KL' if any('pairwise_kl' in r.row['metrics'] for r in rows) else 'knowledge'
  return (
    'Without augmentation. Members that fit these inputs almost without error also agree on them '
    f'({measure}), so a student that sees only these inputs learns little of their disagreement '
    '(Nam et al., 2021).'
  )


def markdown(runs: list[Run]) -> str:
  """Return Markdown tables over the runs, with the best of each column in bold.

  A second table has the training inputs, where these were evaluated.
  """
  rows = joined(runs)
  text = grid(rows, columns.table_columns([r.row for r in rows]))
  if note := shift_note(rows):
    text += f'\n{note}\n'
  if training := columns.training([r.row for r in rows]):
    text += f'\n{TRAINING}. {training_note(rows)}\n\n{grid(rows, training)}'
  return text


def grid(rows: list[Row], shown: list[Column], marked: Marked = best) -> str:
  """Return a Markdown table of these rows and columns, with the marked cells in bold."""
  tops = [marked(rows, column) for column in shown]
  lines = [
    ['model', *(arrow(column) for column in shown)],
    ['---', *('---:' for _ in shown)],
  ]
  for i, row in enumerate(rows):
    cells = [cell(row.row, column) for column in shown]
    label = row.label.replace('|', r'\|')
    lines.append([label, *(f'**{c}**' if i in top else c for c, top in zip(cells, tops))])
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


def arrow(column: Column) -> str:
  """Return the title of a column and an arrow: whether higher or lower is better."""
  arrows = {'higher': ' ↑', 'lower': ' ↓', '': ''}
  return column.title + arrows[column.better]
