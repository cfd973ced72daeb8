"""Write the table of the digits runs, from their results.json, into the README files.

  python -m experiments.digits.collect [--runs=runs/digits]

The table replaces the text between the marks in the README.md of this folder and of the project.
Numbers and times also go into configs/measured.json, and from there into configs/README.md.
"""

import argparse
import json
import pathlib

from ensdistill.commands import readme
from ensdistill.evaluation import rows
from ensdistill.report.runs import load
from experiments.digits.run import METHODS

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


def write_measured(results: dict[str, dict]) -> None:
  """Write numbers and times into configs/measured.json, and configs/README.md from it."""
  path = ROOT / 'configs' / 'measured.json'
  measured = json.loads(path.read_text())
  for method, found in results.items():
    _, row = students(method, found['rows'])[-1]
    (member,) = rows.of_role(found['rows'], rows.MEMBER)
    which = ', the averaged network' if row['role'] == rows.AVERAGED else ''
    measured[f'{method}_digits'] |= {
      'measured': (
        f'ACC {cell(row, "acc", 100)} %, NLL {cell(row, "nll", 1, 4)}; one member '
        f'{cell(member, "nll", 1, 4)} (three seeds{which})'
      ),
      'time': f'{found["timings"]["student"]:.0f} s, three students together',
    }
  path.write_text(json.dumps(measured, indent=2, ensure_ascii=False) + '\n')
  readme.write(path.parent, measured)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--runs', type=pathlib.Path, default=pathlib.Path('runs/digits'))
  folder = parser.parse_args().runs
  every = {method: load(folder / method) for method in METHODS}
  results = {method: found for method, found in every.items() if found}
  text = table({method: found['rows'] for method, found in results.items()})
  for path in (ROOT / 'README.md', pathlib.Path(__file__).with_name('README.md')):
    between_marks(path, text)
  write_measured(results)
  print(text)


if __name__ == '__main__':
  main()
