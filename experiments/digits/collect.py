"""Write the table of the digits runs, from their results.json.

  python -m experiments.digits.collect [--runs=runs/digits]

Replaces the text between the marks in this folder's README.md and in the project's, and the digits'
entries of configs/measured.json and configs/README.md.
"""

import argparse
import json
import pathlib

from ensdistill.commands import listing
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


def cell(row, metric, factor=1, digits=2) -> str:
  value, error = row['metrics'].get(metric), row['se'].get(metric)
  if value is None:
    return '–'
  text = f'{factor * value:,.{digits}f}'
  return f'{text} ± {factor * error:.{digits}f}' if error and row['seeds'] > 1 else text


def shown(method, rows) -> list[tuple[str, dict]]:
  """The student's rows by their titles: its average too where that is what the method leaves."""
  found = [(f'`{method}`', rows['student'])]
  if method.startswith('latentbe'):
    found.append((f'`{method}`, averaged', rows['student-averaged']))
  return found


def better(member, student) -> bool:
  """Whether the student's NLL is lower by more than twice the combined standard error."""
  error = (student['se']['nll'] ** 2 + member['se']['nll'] ** 2) ** 0.5
  return member['metrics']['nll'] - student['metrics']['nll'] > 2 * error


def table(runs: dict) -> str:
  line = lambda title, row: (
    f'| {title} | ' + ' | '.join(cell(row, *column[1:]) for column in COLUMNS) + ' |'
  )
  first = next(iter(runs.values()))
  ensemble = max((n for n in first if n.startswith('ensemble-')), key=lambda n: int(n[9:]))
  lines = [
    '| model | ' + ' | '.join(title for title, *_ in COLUMNS) + ' |',
    '|---|' + '---:|' * len(COLUMNS),
    line('one member', first['member']),
    line(f'**ensemble of {ensemble[9:]}**', first[ensemble]),
  ]
  lines += [line(*pair) for method, rows in runs.items() for pair in shown(method, rows)]
  good = {m: better(rows['member'], shown(m, rows)[-1][1]) for m, rows in runs.items()}
  name = lambda wanted: ', '.join(f'`{m}`' for m, is_good in good.items() if is_good == wanted)
  return '\n'.join(lines) + (
    '\n\nBetter than one member in NLL by more than twice the combined standard error: '
    f'{name(True) or "none"}. Not so: {name(False) or "none"}.\n'
  )


def between_marks(path: pathlib.Path, text: str) -> None:
  before, rest = path.read_text().split(BEGIN)
  path.write_text(before + BEGIN + '\n' + text + '\n' + END + rest.split(END)[1])


def write_measured(runs: dict, seconds: dict) -> None:
  """Write numbers and times into configs/measured.json, and configs/README.md from it."""
  path = ROOT / 'configs' / 'measured.json'
  measured = json.loads(path.read_text())
  for method, rows in runs.items():
    title, row = shown(method, rows)[-1]
    which = ', the averaged network' if title.endswith('averaged') else ''
    measured[f'{method}_digits'] |= {
      'measured': (
        f'ACC {cell(row, "acc", 100)} %, NLL {cell(row, "nll", 1, 4)}; one member '
        f'{cell(rows["member"], "nll", 1, 4)} (three seeds{which})'
      ),
      'time': f'{seconds[method]:.0f} s, three students together',
    }
  path.write_text(json.dumps(measured, indent=2, ensure_ascii=False) + '\n')
  (ROOT / 'configs' / 'README.md').write_text(listing.markdown(measured))


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--runs', type=pathlib.Path, default=pathlib.Path('runs/digits'))
  folder = parser.parse_args().runs
  runs, seconds = {}, {}
  for method in METHODS:
    path = folder / method / 'results.json'
    if path.exists():
      results = json.loads(path.read_text())
      runs[method] = {row['name']: row for row in results['rows']}
      seconds[method] = results['timings']['student']
  text = table(runs)
  for path in (ROOT / 'README.md', pathlib.Path(__file__).with_name('README.md')):
    between_marks(path, text)
  write_measured(runs, seconds)
  print(text)


if __name__ == '__main__':
  main()
