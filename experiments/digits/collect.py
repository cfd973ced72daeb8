"""Write the table of the digits runs, from their results.json, into the README files.

  python experiments/digits/collect.py [--runs=runs/digits]

The table replaces the text between the marks in the README.md of this folder and of the project.
"""

import argparse
import pathlib

from run import METHODS

from ensdistill.evaluation import rows
from ensdistill.report.runs import load

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BEGIN, END = '<!-- digits: measured -->\n', '<!-- digits: end -->\n'
COLUMNS = (  # title, metric, factor, digits
  ('ACC %', 'acc', 100, 2),
  ('NLL', 'nll', 1, 4),
  ('ECE %', 'ece', 100, 2),
  ('shifted ACC %', 'shift/mean/3/acc', 100, 1),
  ('OOD AUROC (total)', 'ood/digits_inverted/auroc_total', 100, 1),
  ('OOD AUROC (knowledge)', 'ood/digits_inverted/auroc_knowledge', 100, 1),
  ('parameters', 'params', 1, 0),
  ('gap closed, NLL, %', 'gap_closed/nll', 100, 0),
)


def cell(row: dict, metric: str, factor: float = 1, digits: int = 2) -> str:
  """Return a metric of a row as text, with its standard error over several seeds."""
  value, error = row['metrics'].get(metric), row['se'].get(metric)
  if value is None:
    return '–'
  text = f'{factor * value:,.{digits}f}'
  return f'{text} ± {factor * error:.{digits}f}' if error and row['seeds'] > 1 else text


def students(method: str, found: list[dict]) -> list[tuple[str, dict]]:
  """Return (title, row) of the student, and of its average if the method trains for that."""
  shown = [(f'`{method}`', row) for row in rows.of_role(found, rows.STUDENT)]
  if method.startswith('latentbe'):
    shown += [(f'`{method}`, averaged', row) for row in rows.of_role(found, rows.AVERAGED)]
  return shown


def better(member: dict, student: dict) -> bool:
  """Return whether the student's NLL is lower by more than two combined standard errors."""
  error = (student['se']['nll'] ** 2 + member['se']['nll'] ** 2) ** 0.5
  return member['metrics']['nll'] - student['metrics']['nll'] > 2 * error


def line(title: str, row: dict) -> str:
  """Return a row of the table."""
  return f'| {title} | ' + ' | '.join(cell(row, *column[1:]) for column in COLUMNS) + ' |'


def table(runs: dict[str, list[dict]]) -> str:
  """Return the table over {method: rows of its run}; all runs have one teacher."""
  first = next(iter(runs.values()))
  (member,) = rows.of_role(first, rows.MEMBER)
  ensemble = rows.largest_ensemble(first)
  assert ensemble is not None
  lines = [
    '| model | ' + ' | '.join(title for title, *_ in COLUMNS) + ' |',
    '|---|' + '---:|' * len(COLUMNS),
    line('one member', member),
    line(f'**ensemble of {ensemble["size"]}**', ensemble),
  ]
  won: dict[bool, list[str]] = {True: [], False: []}
  for method, found in runs.items():
    shown = students(method, found)
    lines += [line(*pair) for pair in shown]
    (member,) = rows.of_role(found, rows.MEMBER)
    won[better(member, shown[-1][1])].append(f'`{method}`')
  return '\n'.join(lines) + (
    '\n\nBetter than one member in NLL by more than two combined standard errors: '
    f'{", ".join(won[True]) or "none"}. Not better: {", ".join(won[False]) or "none"}.\n'
  )


def between_marks(path: pathlib.Path, text: str) -> None:
  """Replace the text between the marks in a file."""
  before, rest = path.read_text().split(BEGIN)
  path.write_text(before + BEGIN + '\n' + text + '\n' + END + rest.split(END)[1])


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--runs', type=pathlib.Path, default=pathlib.Path('runs/digits'))
  folder = parser.parse_args().runs
  results = {method: load(folder / method) for method in METHODS}
  text = table({method: found['rows'] for method, found in results.items() if found})
  for path in (ROOT / 'README.md', pathlib.Path(__file__).with_name('README.md')):
    between_marks(path, text)
  print(text)


if __name__ == '__main__':
  main()
