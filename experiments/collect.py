"""Write every table of the experiments again from their results/*.json.

  python -m experiments.collect           # writes the files
  python -m experiments.collect --check   # changes nothing; exit code 1 if a file is out of date

An experiment is a folder with results/, which `ensdistill sweep --out=FOLDER` fills. Its tables
stand in its README.md between the marks <!-- NAME: measured --> and <!-- NAME: end -->, where NAME
is the folder's name. A folder with a collector of its own is listed in COLLECTORS; without results
it is an error, unless it stands in PLANNED: these collectors write what has not run. The table of
all claims stands in experiments/README.md and in README.md.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable

from ensdistill.storage import safe
from ensdistill.sweep import records, tables
from experiments import claims
from experiments.cifar_small import collect as cifar_small
from experiments.digits import collect as digits
from experiments.full import collect as full
from experiments.grid import collect as grid
from experiments.hydra import uci
from experiments.mnist import collect as mnist
from experiments.spirals import collect as spirals

ROOT = pathlib.Path(__file__).resolve().parent.parent
# {folder: (root, its results/) -> {file: new content, or {mark: text}}}
COLLECTORS: dict[str, Callable] = {
  'cifar_small': cifar_small.files,
  'digits': digits.files,
  'full': full.files,
  'grid': grid.files,
  'hydra': uci.files,
  'mnist': mnist.files,
  'spirals': spirals.files,
}
# Experiments of COLLECTORS that need no results: their tables say what has not run.
PLANNED = ('cifar_small', 'full', 'grid', 'mnist', 'spirals')


def stale(root: pathlib.Path = ROOT) -> dict[pathlib.Path, str]:
  """Return {file: its new content} of every file that does not show the results.

  Raise ValueError where a listed experiment has no results, or a file lacks its marks.
  """
  for name in COLLECTORS:
    folder = root / 'experiments' / name
    if folder.is_dir() and name not in PLANNED and not any(folder.glob('results/*.json')):
      raise ValueError(f'{folder} has no results/*.json: run its sweep, or restore them')
  contents: dict[pathlib.Path, str] = {}
  for folder in sorted(path for path in (root / 'experiments').glob('*') if path.is_dir()):
    if folder.name in PLANNED or any(folder.glob('results/*.json')):
      collector = COLLECTORS.get(folder.name, _default)
      _add(contents, collector(root, folder / 'results'))
  if (root / 'experiments' / 'README.md').exists():
    every, tested = claims.tables(root / 'experiments')
    _add(contents, {root / 'experiments' / 'README.md': {'claims': every}})
    _add(contents, {root / 'README.md': {'claims': tested}})
  return {path: new for path, new in contents.items() if _read(path) != new}


def _read(path: pathlib.Path) -> str:
  """Return the content of a file; '' where there is none yet."""
  return path.read_text() if path.exists() else ''


def _add(contents: dict[pathlib.Path, str], found: dict) -> None:
  """Add the new contents of files, or texts between their marks, to those of other collectors."""
  for path, new in found.items():
    old = contents.get(path) or _read(path)
    contents[path] = new if isinstance(new, str) else _marked(path, old, new)


def _default(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, dict[str, str]]:
  """Return all tables of a folder without its own collector, compared with kd if it is there."""
  del root
  found, folder = records.read_all(results), results.parent
  baseline = 'kd' if 'kd' in {record['method'] for record in found} else None
  return {folder / 'README.md': {folder.name: tables.markdown(found, baseline)}}


def _marked(path: pathlib.Path, old: str, texts: dict[str, str]) -> str:
  """Return a file's content with the texts between their marks."""
  for name, text in texts.items():
    begin, end = f'<!-- {name}: measured -->\n', f'<!-- {name}: end -->\n'
    if begin not in old or end not in old:
      raise ValueError(f'{path} lacks the marks {begin.strip()} and {end.strip()}')
    before, rest = old.split(begin, 1)
    old = f'{before}{begin}\n{text.strip()}\n\n{end}{rest.split(end, 1)[1]}'
  return old


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--check', action='store_true', help='change nothing')
  check = parser.parse_args(arguments).check
  try:
    found = stale()
  except ValueError as error:
    sys.exit(str(error))
  for path, content in found.items():
    print(f'{"out of date" if check else "written"}: {path.relative_to(ROOT)}')
    if not check:
      safe.write_atomic(path, content)
  if check and found:
    sys.exit('python -m experiments.collect writes them again')


if __name__ == '__main__':
  main()
