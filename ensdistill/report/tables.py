"""Results as text: a table for the terminal, and one in Markdown over any number of runs."""

from typing import NamedTuple

from ensdistill.report import columns as columns_lib
from ensdistill.report.runs import Run


class Row(NamedTuple):
  """A row of a table over several runs."""

  label: str
  row: dict  # as in results.json
  student: bool
  machine: str | None = None  # that it was timed on, where runs are compared and it is known


def table(results: dict) -> str:
  """The rows of a run, a line each, with the standard error where there are several students."""
  rows = some_ensembles(results['rows'])
  kind = columns_lib.family(rows)
  columns = columns_lib.MAIN[kind] + columns_lib.COST[0:3:2] + columns_lib.GAP
  lines = [['', *(column.title for column in columns)]]
  for row in rows:
    lines.append([row['name'], *(cell(row, column) for column in columns)])
  widths = [max(map(len, column)) for column in zip(*lines)]
  text = [
    '  '.join(_align(c, w, i) for i, (c, w) in enumerate(zip(line, widths))) for line in lines
  ]
  text.insert(1, '-' * len(text[0]))
  return '\n'.join([*text, _note(results)])


def some_ensembles(rows: list[dict]) -> list[dict]:
  """All rows, but of more than eight ensembles those of 2, 4, 8, 16... members and the largest."""
  sizes = [int(r['name'].partition('-')[2]) for r in rows if r['name'].startswith('ensemble-')]
  keep = {2**i for i in range(1, 20)} | {max(sizes, default=0)} if len(sizes) > 8 else set(sizes)
  hidden = {f'ensemble-{size}' for size in sizes if size not in keep}
  return [row for row in rows if row['name'] not in hidden]


def _align(text, width, column):
  return text.rjust(width) if column else text.ljust(width)


def cell(row, column) -> str:
  """A metric of a row as text, with its standard error if it has one; '-' where it is missing."""
  value = row['metrics'].get(column.key)
  if value is None:
    return '-'
  error = row['se'].get(column.key)
  form = column.error or column.form
  return column.form(value) + (f' ± {form(error)}' if error and row['seeds'] > 1 else '')


def _note(results) -> str:
  took = ', '.join(f'{name} {value:.0f} s' for name, value in results['timings'].items())
  return f'gap closed: of the distance in NLL from one member to the ensemble. {took}'


def joined(runs: list[Run]) -> list[Row]:
  """Rows of several runs: what they share (their teacher's) stands there once.

  Of several runs each shows one student; a second view of it is left to `others`.
  """
  rows, seen, several = [], set(), len(runs) > 1
  for run in runs:
    for row in some_ensembles(run.rows):
      same = repr((row['name'], row['metrics'].get('nll'), row['metrics'].get('cnll')))
      if is_student(row) or same in seen:
        continue
      seen.add(same)
      clash = any(r.row['name'] == row['name'] for r in rows)
      label = f'{row["name"]} [{run.label}]' if clash else row['name']
      rows.append(_timed(run, Row(label, row, False)) if several else Row(label, row, False))
  if several:
    return rows + [_student(run, run.students[0]) for run in runs if run.students]
  (run,) = runs
  return rows + [Row(run.named(row, 'student'), row, True) for row in run.students]


def others(runs: list[Run]) -> list[Row]:
  """The views that `joined` leaves out: averages of students that were not trained to be averaged,
  members of those that were.
  """
  return [_student(run, row) for run in runs for row in run.students[1:] if len(runs) > 1]


def _student(run, row) -> Row:
  return _timed(run, Row(run.named(row), row, True))


def _timed(run, row: Row) -> Row:
  """Among several runs: its time as a multiple of one member's, which was timed in the same run."""
  metrics, key = dict(row.row['metrics']), 'ms_per_example'
  ours, unit = metrics.get(key), run.rows[0]['metrics'].get(key)
  metrics = {k: v for k, v in metrics.items() if not k.startswith(key)}
  if ours and unit:
    metrics[columns_lib.TIMES] = ours / unit
  return row._replace(row=row.row | {'metrics': metrics}, machine=run.machine)


def is_student(row) -> bool:
  return row['name'].startswith('student')


def best(rows: list[Row], column) -> set[int]:
  """Indices of the best rows of a column: among students, or all rows where there is one student.

  Values that are written alike are equally good.
  """
  if not column.better:
    return set()
  rivals = [i for i, row in enumerate(rows) if row.student]
  if column.key == columns_lib.TIMES and not comparable(rows):
    return set()
  if len(rivals) < 2:
    rivals = range(len(rows))
  values = {i: rows[i].row['metrics'].get(column.key) for i in rivals}
  values = {i: value for i, value in values.items() if value is not None}
  if len(values) < 2:
    return set()
  top = (max if column.better == 'higher' else min)(values.values())
  return {i for i, value in values.items() if column.form(value) == column.form(top)}


def comparable(rows: list[Row]) -> bool:
  """Were the students of several runs timed on the same machine, with the same versions?"""
  machines = {row.machine for row in rows if row.student}
  return len(machines) == 1 and machines != {None}


def time_note(rows: list[Row]) -> str | None:
  """How far the times of several runs may be compared."""
  if not any(columns_lib.TIMES in row.row['metrics'] for row in rows):
    return None
  note = 'Times are multiples of one member’s, timed in turns with it in the same run.'
  if comparable(rows):
    return f'{note} All runs had the same machine and versions.'
  return (
    f'{note} The runs had different machines or versions, or did not record theirs: milliseconds '
    'are not compared, and no time is marked as the best.'
  )


def bold_note(rows: list[Row]) -> str:
  several = sum(row.student for row in rows) > 1
  return f'Bold: the best {"student" if several else "model"} of each column, ties included.'


def markdown(runs: list[Run]) -> str:
  """One table over the runs in Markdown, the best of each column in bold."""
  rows = joined(runs)
  columns = columns_lib.table_columns([r.row for r in rows])
  tops = [best(rows, column) for column in columns]
  lines = [
    ['model', *(arrow(column) for column in columns)],
    ['---', *('---:' for _ in columns)],
  ]
  for i, row in enumerate(rows):
    cells = [cell(row.row, column) for column in columns]
    lines.append([_pipe(row.label), *(f'**{c}**' if i in t else c for c, t in zip(cells, tops))])
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


def arrow(column, up='↑', down='↓'):
  """A column's title and which way is better."""
  return (
    f'{column.title} {up if column.better == "higher" else down}' if column.better else column.title
  )


def _pipe(text):
  return text.replace('|', r'\|')
