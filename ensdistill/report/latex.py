"""Results in LaTeX: tables for the booktabs package, split so that each one fits on a page."""

import re
import textwrap

from ensdistill.evaluation.rows import title
from ensdistill.report import columns, tables
from ensdistill.report.columns import Column
from ensdistill.report.runs import Run

LIMIT = 87  # digits in a line of 400 pt in \small, the text width of most papers
PACKAGE = '% \\usepackage{booktabs}'
BETWEEN = 1.75  # space between columns, in digits
_ERROR = 0.86  # relative size of a standard error, which has a smaller font


def booktabs(runs: list[Run]) -> str:
  """Return tables of runs on the same data: quality, uncertainty and cost, the best in bold."""
  rows = tables.joined(runs)
  data = runs[0].config['data']['name']
  labels = [_label(row, data) for row in rows]
  parts = [PACKAGE]
  for topic, group in columns.groups([row.row for row in rows]).items():
    pieces = pieces_of(rows, labels, group)
    for i, piece in enumerate(pieces):
      part = f' ({i + 1} of {len(pieces)})' if len(pieces) > 1 else ''
      caption = f'{data}: {topic}{part}.'
      notes = _notes(rows, piece)
      parts.append(table(rows, labels, piece, caption, notes))
  return '\n'.join(parts)


def _label(row: tables.Row, data: str) -> str:
  """Return the label of a row in a paper, without the name of the data, which the caption has."""
  label = row.label
  if not row.student:
    label = title(row.row['role'], row.row['size']) + (f' [{row.origin}]' if row.origin else '')
  return re.sub(rf'_{re.escape(data)}\b', '', label)


def pieces_of(rows: list[tables.Row], labels: list[str], group: list[Column]) -> list[list[Column]]:
  """Return the columns in pieces of about equal length, each within the limit."""
  room = LIMIT - max(map(_digits, labels))
  widths = [BETWEEN + _width(rows, column) for column in group]
  for count in range(1, len(group) + 1):
    size = -(-len(group) // count)
    starts = range(0, len(group), size)
    if size == 1 or all(sum(widths[i : i + size]) <= room for i in starts):
      return [group[i : i + size] for i in starts]
  return []


def _width(rows: list[tables.Row], column: Column) -> float:
  """Return the width of a column in digits."""
  cells = [tables.cell(row.row, column).split(' ± ') for row in rows]
  numbers = [
    _digits(value) + sum(_ERROR * (_digits(e) + 1.5) for e in error) for value, *error in cells
  ]
  return max(*map(_digits, _lines(rows, column)), *numbers)


def _digits(text: str) -> float:
  """Return the approximate width of a text in digits."""
  return len(text) - 0.45 * sum(map(text.count, '.,il()'))


def _lines(rows: list[tables.Row], column: Column) -> list[str]:
  """Return the title of a column in lines that are about as narrow as its numbers."""
  room = max(8, *(len(tables.cell(row.row, column)) for row in rows))
  parts = column.title.replace(' (', '\n(').split('\n')
  return [line for part in parts for line in textwrap.wrap(part, room, break_long_words=False)]


def _notes(rows: list[tables.Row], group: list[Column]) -> list[str]:
  """Return what the caption of a table of runs says after its title."""
  notes = [tables.bold_note(rows)] if any(tables.best(rows, column) for column in group) else []
  if any('±' in tables.cell(row.row, column) for row in rows for column in group):
    notes.append('Mean ± standard error over members, or over students of several seeds.')
  if any(column.key == columns.RELATIVE_TIME for column in group):
    notes.append(tables.time_note(rows) or '')
  if any(column.key.startswith('shift/') for column in group):
    notes.append(tables.shift_note(rows) or '')
  return notes


def table(
  rows: list[tables.Row],
  labels: list[str],
  group: list[Column],
  caption: str,
  notes: list[str],
  marked: tables.Marked = tables.best,
) -> str:
  """Return one table with these columns, with the marked cells in bold."""
  tops = [marked(rows, column) for column in group]
  name = re.sub(r'[^a-z0-9]+', '-', caption.lower()).strip('-')
  lines = [r'\begin{table}[tp]', r'\centering\small\setlength{\tabcolsep}{4pt}']
  lines += [
    rf'\caption{{{escape(" ".join(filter(None, [caption, *notes])))}}}',
    rf'\label{{tab:{name}}}',
  ]
  lines += [rf'\begin{{tabular}}{{l{"r" * len(group)}}}', r'\toprule']
  lines += [' & '.join(['model', *(_head(rows, column) for column in group)]) + r' \\']
  for i, row in enumerate(rows):
    if i == 0 or row.student and not rows[i - 1].student:
      lines.append(r'\midrule')
    cells = [_cell(row.row, column, i in top) for column, top in zip(group, tops)]
    lines.append(' & '.join([escape(labels[i]), *cells]) + r' \\')
  return '\n'.join([*lines, r'\bottomrule', r'\end{tabular}', r'\end{table}']) + '\n'


def _head(rows: list[tables.Row], column: Column) -> str:
  """Return the head of a column: its title and an arrow."""
  lines = [escape(line) for line in _lines(rows, column)]
  lines[-1] += {'higher': r'~$\uparrow$', 'lower': r'~$\downarrow$', '': ''}[column.better]
  return r'\shortstack[r]{' + r' \\ '.join(lines) + '}' if len(lines) > 1 else lines[0]


def _cell(row: dict, column: Column, best: bool) -> str:
  """Return a metric of a row, in bold where it is the best."""
  value, _, error = tables.cell(row, column).partition(' ± ')
  value = {'-': '--'}.get(value) or re.sub(r'-(?=\d)', '$-$', escape(value))
  value = rf'\textbf{{{value}}}' if best else value
  return value + (rf'{{\scriptsize$\pm${escape(error)}}}' if error else '')


def escape(text: str) -> str:
  """Return a text with the special characters of LaTeX escaped."""
  special = {c: f'\\{c}' for c in '&%$#_{}'} | {
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '±': r'$\pm$',
    '×': r'$\times$',
    '<': '$<$',
    '>': '$>$',
    '’': "'",
  }
  return ''.join(special.get(c, c) for c in text)
