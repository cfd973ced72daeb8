"""Results as text: a table for the terminal, and a Markdown table of any number of runs."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ensdistill.evaluation.rows import ENSEMBLE, MEMBER, STUDENTS, of_role
from ensdistill.report import columns
from ensdistill.report.columns import Column
from ensdistill.report.runs import Run


class Row(NamedTuple):
  """A row of a table over several runs."""

  label: str
  row: dict  # as in results.json
  origin: str = ''  # label of the run, where another run has another row of the same name
  machine: str | None = None  # that timed the row, where runs are compared and it is known

  @property
  def student(self) -> bool:
    """Whether the row is a student's."""
    return self.row['role'] in STUDENTS


def table(results: dict) -> str:
  """Return one line per row of a run, with standard errors where there are several students."""
  rows = some_ensembles(results['rows'])
  shown = columns.present(rows, columns.QUALITY)
  shown += [columns.PARAMETERS, columns.TIME, columns.GAP]
  lines = [['', *(column.title for column in shown)]]
  for row in rows:
    lines.append([row['name'], *(cell(row, column) for column in shown)])
  widths = [max(map(len, column)) for column in zip(*lines)]
  text = [
    '  '.join(_align(c, w, i) for i, (c, w) in enumerate(zip(line, widths))) for line in lines
  ]
  text.insert(1, '-' * len(text[0]))
  covered = [f'{name}: {line}' for name, line in results.get('coverage', {}).items()]
  return '\n'.join([*text, *covered, _note(results)])


def some_ensembles(rows: list[dict]) -> list[dict]:
  """Return all rows; of more than eight ensembles only sizes 2, 4, 8, 16 ... and the largest."""
  sizes = [row['size'] for row in of_role(rows, ENSEMBLE)]
  if len(sizes) <= 8:
    return rows
  keep = {2**i for i in range(1, 20)} | {max(sizes)}
  return [row for row in rows if row['role'] != ENSEMBLE or row['size'] in keep]


def _align(text: str, width: int, column: int) -> str:
  return text.rjust(width) if column else text.ljust(width)


def cell(row: dict, column: Column) -> str:
  """Return a metric of a row as text, with its standard error or spread; '-' if missing."""
  value = row['metrics'].get(column.key)
  if value is None:
    return '-'
  error = row['se'].get(column.key) if row['seeds'] > 1 else None
  error = error or row['metrics'].get(f'{column.key}/spread')  # of repeated timings
  form = column.error or column.form
  return column.form(value) + (f' ± {form(error)}' if error else '')


def _note(results: dict) -> str:
  took = ', '.join(f'{name} {value:.0f} s' for name, value in results['timings'].items())
  return f'gap closed: share of the distance in NLL from one member to the ensemble. {took}'


def joined(runs: list[Run]) -> list[Row]:
  """Return the rows of several runs; rows that the runs share (their teacher's) appear once.

  Of several runs each shows one student; `others` returns the other views.
  """
  if len(runs) > 1:
    return _teachers(runs) + [_student(run, run.students[0]) for run in runs if run.students]
  (run,) = runs
  return _teachers(runs) + [Row(run.named(row, 'student'), row) for row in run.students]


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
      found = Row(label, row, run.label if clash else '')
      rows.append(_timed(run, found) if len(runs) > 1 else found)
  return rows


def others(runs: list[Run]) -> list[Row]:
  """Return the views of students that `joined` leaves out.

  They are the averages of students that were not trained for averaging, and the members of students
  that were.
  """
  return [_student(run, row) for run in runs for row in run.students[1:] if len(runs) > 1]


def _student(run: Run, row: dict) -> Row:
  return _timed(run, Row(run.named(row), row))


def _timed(run: Run, row: Row) -> Row:
  """Return the row with its time relative to one member, which the same run has timed."""
  metrics, key = dict(row.row['metrics']), columns.TIME.key
  member: dict = next(iter(of_role(run.rows, MEMBER)), {'metrics': {}})
  ours, unit = metrics.get(key), member['metrics'].get(key)
  metrics = {k: v for k, v in metrics.items() if not k.startswith(key)}
  if ours and unit:
    metrics[columns.RELATIVE_TIME] = ours / unit
  return row._replace(row=row.row | {'metrics': metrics}, machine=run.machine)


def best(rows: list[Row], column: Column) -> set[int]:
  """Return the indices of the best rows of a column: of the students, or of all if there is one.

  Values that are printed alike are ties.
  """
  if not column.better:
    return set()
  if column.key == columns.RELATIVE_TIME and not comparable(rows):
    return set()
  rivals = [i for i, row in enumerate(rows) if row.student]
  if len(rivals) < 2:
    rivals = list(range(len(rows)))
  values = {i: rows[i].row['metrics'].get(column.key) for i in rivals}
  values = {i: value for i, value in values.items() if value is not None}
  if len(values) < 2:
    return set()
  top = (max if column.better == 'higher' else min)(values.values())
  return {i for i, value in values.items() if column.form(value) == column.form(top)}


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
  return f'Bold: the best {"student" if several else "model"} of each column, including ties.'


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
