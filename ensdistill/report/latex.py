"""Results in LaTeX: tables for the booktabs package, as many as it takes for each to fit a page."""

import re
import textwrap

from ensdistill.report import columns as columns_lib
from ensdistill.report import tables as tables_lib
from ensdistill.report.runs import Run

LIMIT = 87  # digits in a line of 400 pt in \small, the width of most papers' text
BETWEEN = 1.75  # columns, in digits
_ERROR = 0.86  # a standard error is written smaller


def tables(runs: list[Run]) -> str:
  """The results of runs on the same data: quality, uncertainty and cost, the best in bold."""
  rows = tables_lib.joined(runs)
  data = runs[0].config['data']['name']
  labels = _labels([row.label for row in rows], data)
  parts = ['% \\usepackage{booktabs}']
  for about, group in columns_lib.groups([row.row for row in rows]).items():
    pieces = list(_pieces(rows, labels, group))
    for i, columns in enumerate(pieces):
      part = f' ({i + 1} of {len(pieces)})' if len(pieces) > 1 else ''
      parts.append(_table(rows, labels, columns, f'{data}: {about}{part}.'))
  return '\n'.join(parts)


def _labels(labels: list[str], data: str) -> list[str]:
  """Rows as a paper calls them, without the name of the data, which stands in the caption."""
  labels = [re.sub(rf'_{re.escape(data)}\b', '', label) for label in labels]
  labels = [re.sub(r'^ensemble-', 'ensemble of ', label) for label in labels]
  return ['one member' if label == 'member' else label for label in labels]


def _pieces(rows, labels, columns):
  """Columns in stretches of about equal length, each within the limit."""
  room = LIMIT - max(map(_digits, labels))
  widths = [BETWEEN + _width(rows, column) for column in columns]
  for count in range(1, len(columns) + 1):
    size = -(-len(columns) // count)
    starts = range(0, len(columns), size)
    if size == 1 or all(sum(widths[i : i + size]) <= room for i in starts):
      yield from (columns[i : i + size] for i in starts)
      return


def _width(rows, column) -> float:
  cells = [tables_lib.cell(row.row, column).split(' ± ') for row in rows]
  numbers = [
    _digits(value) + sum(_ERROR * (_digits(e) + 1.5) for e in error) for value, *error in cells
  ]
  return max(*map(_digits, _lines(rows, column)), *numbers)


def _digits(text: str) -> float:
  """About how wide a text is."""
  return len(text) - 0.45 * sum(map(text.count, '.,il()'))


def _lines(rows, column) -> list[str]:
  """A column's title, broken where that keeps it as narrow as its numbers."""
  room = max(8, *(len(tables_lib.cell(row.row, column)) for row in rows))
  parts = column.title.replace(' (', '\n(').split('\n')
  return [line for part in parts for line in textwrap.wrap(part, room, break_long_words=False)]


def _table(rows, labels, columns, caption: str) -> str:
  tops = [tables_lib.best(rows, column) for column in columns]
  notes = [caption, tables_lib.bold_note(rows) if any(tops) else '']
  if any('±' in tables_lib.cell(row.row, column) for row in rows for column in columns):
    notes.append('Mean ± standard error over members, or over students of several seeds.')
  if any(column.key == columns_lib.TIMES for column in columns):
    notes.append(tables_lib.time_note(rows))
  name = re.sub(r'[^a-z0-9]+', '-', caption.lower()).strip('-')
  lines = [r'\begin{table}[tp]', r'\centering\small\setlength{\tabcolsep}{4pt}']
  lines += [rf'\caption{{{escape(" ".join(filter(None, notes)))}}}', rf'\label{{tab:{name}}}']
  lines += [rf'\begin{{tabular}}{{l{"r" * len(columns)}}}', r'\toprule']
  lines += [' & '.join(['model', *(_head(rows, column) for column in columns)]) + r' \\']
  for i, row in enumerate(rows):
    if i == 0 or row.student and not rows[i - 1].student:
      lines.append(r'\midrule')
    cells = [_cell(row.row, column, i in top) for column, top in zip(columns, tops)]
    lines.append(' & '.join([escape(labels[i]), *cells]) + r' \\')
  return '\n'.join([*lines, r'\bottomrule', r'\end{tabular}', r'\end{table}']) + '\n'


def _head(rows, column) -> str:
  lines = [escape(line) for line in _lines(rows, column)]
  lines[-1] += {'higher': r'~$\uparrow$', 'lower': r'~$\downarrow$', '': ''}[column.better]
  return r'\shortstack[r]{' + r' \\ '.join(lines) + '}' if len(lines) > 1 else lines[0]


def _cell(row, column, best: bool) -> str:
  value, _, error = tables_lib.cell(row, column).partition(' ± ')
  value = {'-': '--'}.get(value) or re.sub('^-', '$-$', escape(value))
  value = rf'\textbf{{{value}}}' if best else value
  return value + (rf'{{\scriptsize$\pm${escape(error)}}}' if error else '')


def escape(text: str) -> str:
  """Text for LaTeX."""
  special = {c: f'\\{c}' for c in '&%$#_{}'} | {
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '±': r'$\pm$',
    '×': r'$\times$',
    '’': "'",
  }
  return ''.join(special.get(c, c) for c in text)
