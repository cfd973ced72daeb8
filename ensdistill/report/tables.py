"""Results as text: a table for the terminal, Markdown and LaTeX over any number of runs."""

from typing import NamedTuple

from ensdistill.report import columns as columns_lib

AVERAGED = ' (averaged)'  # behind the name of a student's average


class Row(NamedTuple):
  """A row of a table over several runs."""

  label: str
  row: dict  # as in results.json
  student: bool


def table(results: dict) -> str:
  """The rows of a run, a line each, with the standard error where there are several students."""
  rows = some_ensembles(results['rows'])
  kind = columns_lib.family(rows)
  columns = columns_lib.MAIN[kind] + columns_lib.COST[::2] + columns_lib.GAP
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


def cell(row, column, plus_minus: str = ' ± ') -> str:
  """A metric of a row as text, with its standard error if it has one; '-' where it is missing."""
  value = row['metrics'].get(column.key)
  if value is None:
    return '-'
  error = row['se'].get(column.key)
  form = column.error or column.form
  return column.form(value) + (f'{plus_minus}{form(error)}' if error and row['seeds'] > 1 else '')


def _note(results) -> str:
  took = ', '.join(f'{name} {value:.0f} s' for name, value in results['timings'].items())
  return f'gap closed: of the distance in NLL from one member to the ensemble. {took}'


def joined(runs: dict[str, dict]) -> list[Row]:
  """Rows of several runs {label: results}: what they share (their teacher's) stands there once."""
  rows, seen = [], {}
  for label, results in runs.items():
    for row in some_ensembles(results['rows']):
      if is_student(row):
        continue
      same = repr((row['name'], row['metrics'].get('nll'), row['metrics'].get('cnll')))
      if same not in seen:
        clash = any(r.row['name'] == row['name'] for r in rows)
        seen[same] = True
        rows.append(Row(f'{row["name"]} [{label}]' if clash else row['name'], row, False))
  for label, results in runs.items():
    students = [row for row in results['rows'] if is_student(row)]
    for row in students:
      averaged = AVERAGED if row['name'] == 'student-averaged' else ''
      rows.append(Row((label if len(runs) > 1 else 'student') + averaged, row, True))
  return rows


def is_student(row) -> bool:
  return row['name'].startswith('student')


def best(rows: list[Row], column) -> set[int]:
  """Indices of the best rows of a column: among students, or all rows where there is one student.

  Values that are written alike are equally good.
  """
  if not column.better:
    return set()
  rivals = [i for i, row in enumerate(rows) if row.student]
  runs = {rows[i].label.removesuffix(AVERAGED) for i in rivals}
  if column.key.startswith('ms_') and len(runs) > 1:
    return set()  # timed at different moments
  if len(rivals) < 2:
    rivals = range(len(rows))
  values = {i: rows[i].row['metrics'].get(column.key) for i in rivals}
  values = {i: value for i, value in values.items() if value is not None}
  if len(values) < 2:
    return set()
  top = (max if column.better == 'higher' else min)(values.values())
  return {i for i, value in values.items() if column.form(value) == column.form(top)}


def bold_note(rows: list[Row]) -> str:
  several = sum(row.student for row in rows) > 1
  return f'Bold: the best {"student" if several else "model"} of each column, ties included.'


def markdown(runs: dict[str, dict]) -> str:
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


def latex(runs: dict[str, dict]) -> str:
  """The same table in LaTeX, for the booktabs package."""
  rows = joined(runs)
  columns = columns_lib.table_columns([r.row for r in rows])
  tops = [best(rows, column) for column in columns]
  head = ['model', *(arrow(_escaped(column), r'$\uparrow$', r'$\downarrow$') for column in columns)]
  lines = [rf'\begin{{tabular}}{{l{"r" * len(columns)}}}', r'\toprule']
  lines += [' & '.join(head) + r' \\', r'\midrule']
  for i, row in enumerate(rows):
    if row.student and i and not rows[i - 1].student:
      lines.append(r'\midrule')
    cells = [escape(cell(row.row, column, '±')).replace('±', r' $\pm$ ') for column in columns]
    cells = [rf'\textbf{{{c}}}' if i in t else c for c, t in zip(cells, tops)]
    lines.append(' & '.join([escape(row.label), *cells]) + r' \\')
  return '\n'.join([*lines, r'\bottomrule', r'\end{tabular}']) + '\n'


def arrow(column, up='↑', down='↓'):
  """A column's title and which way is better."""
  return (
    f'{column.title} {up if column.better == "higher" else down}' if column.better else column.title
  )


def _escaped(column):
  return column._replace(title=escape(column.title))


def _pipe(text):
  return text.replace('|', r'\|')


def escape(text: str) -> str:
  """Text for LaTeX."""
  special = {c: f'\\{c}' for c in '&%$#_{}'} | {
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
  }
  return ''.join(special.get(c, c) for c in text)
