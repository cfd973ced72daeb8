"""Run every method on digits, three students each, with one teacher, and write their table.

  python -m experiments.digits.run [--runs=runs/digits] [--seeds=3] [METHOD ...]

Resumable: a finished run is skipped. Writes comparison.html, .md and .tex into the folder of the
runs; collect.py writes the table of README.md.
"""

import argparse
import pathlib
import subprocess
import sys

METHODS = (
  'single', 'kd', 'kd_gaussian', 'hydra', 'hydra_confods', 'multi_head', 'end2', 'end2_aux',
  'end2_proxy', 'end2_tdiv', 'pn', 'be', 'be_kd', 'be_gaussian', 'be_ods', 'be_confods',
  'latentbe', 'latentbe_tdiv_sdiv',
)  # fmt: skip


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('methods', nargs='*', default=METHODS, metavar='METHOD')
  parser.add_argument('--runs', type=pathlib.Path, default=pathlib.Path('runs/digits'))
  parser.add_argument('--seeds', type=int, default=3)
  given = parser.parse_args()
  failed = []
  for method in given.methods:
    command = [
      *(sys.executable, '-m', 'ensdistill.main', f'--config=configs/{method}_digits.py'),
      *(f'--workdir={given.runs / method}', f'--config.seeds={given.seeds}'),
    ]
    print('$', *command[1:], flush=True)
    if subprocess.run(command).returncode:
      failed.append(method)
  done = [str(given.runs / m) for m in given.methods if (given.runs / m / 'results.json').exists()]
  page = f'--out={given.runs / "comparison.html"}'
  subprocess.run([sys.executable, '-m', 'ensdistill.report', *done, page], check=True)
  if failed:
    sys.exit(f'failed: {", ".join(failed)}')


if __name__ == '__main__':
  main()
