"""Write the table of recipes: `python -m ensdistill.commands.readme configs`.

For maintainers. Reads FOLDER/measured.json, writes FOLDER/README.md.
"""

import json
import pathlib
from collections.abc import Sequence

from ensdistill.commands.usage import Parser, fail
from ensdistill.config import recipes
from ensdistill.config.recipes import DATA, METHODS, VARIANTS
from ensdistill.storage import safe

_COLUMNS = ('command', 'variants', 'measured', 'published', 'hardware', 'time')


def main(arguments: Sequence[str] | None = None) -> None:
  """Run the command with its arguments, those of the process by default."""
  parser = Parser(
    prog='python -m ensdistill.commands.readme', description=(__doc__ or '').split('\n')[0]
  )
  parser.add_argument('folder', type=pathlib.Path, metavar='FOLDER', help='holds measured.json')
  folder = parser.parse_args(arguments).folder
  try:
    write(folder, json.loads((folder / 'measured.json').read_text()))
  except (OSError, ValueError) as error:
    fail(1, f'{folder}/measured.json: {error}')


def write(folder: pathlib.Path, measured: dict[str, dict[str, str]]) -> None:
  """Write README.md into the folder."""
  safe.write_atomic(folder / 'README.md', markdown(measured))


def markdown(measured: dict[str, dict[str, str]]) -> str:
  """Return the table of recipes as Markdown: method x data set, then what each recipe measured."""
  lines = [
    '<!-- Generated: python -m ensdistill.commands.readme configs -->',
    '# Recipes',
    '',
    'A recipe is METHOD_DATA, and runs from any folder: `ensdistill train hydra_cifar100`. With a '
    'variant it is `ensdistill train hydra_cifar100:small`. The files here are the same recipes: '
    '`python -m ensdistill.main --config=configs/hydra_cifar100.py:small`.',
    '',
    *[f'- `:{name}`: {about}' for name, about in VARIANTS.items() if name],
    '',
    'Losses, students and perturbations are those of the papers, except in combinations of our '
    'own (`hydra_confods`, `hydra_gaussian`, `end2_tdiv`, `nw_gaussian`). Networks, schedules and '
    'data splits are ours, except in the variants of papers, where they are the settings of the '
    'paper as far as a source states them. `ensdistill list --papers` shows what no source states. '
    '[docs/methods.md](../docs/methods.md#what-is-a-papers-setting-and-what-is-ours) has the '
    'settings of the papers.',
    '',
    'File: a config file and a line below. Name: a recipe that runs by its name alone. Empty: the '
    "method is not for the data set's outputs.",
    '',
    _row(['method', *[f'[{name}](#{name})' for name in DATA], 'what it is']),
    '|---' * (len(DATA) + 2) + '|',
  ]
  for method, entry in METHODS.items():
    cells = [_cell(method, data, measured) for data in DATA]
    lines.append(_row([f'`{method}`', *cells, entry.about]))
  for data, found in DATA.items():
    lines += ['', f'## {data}', '', f'{found.about[0].upper()}{found.about[1:]}.']
    if found.files:
      lines[-1] += f' `--config.data.dir=FOLDER` holds {found.files}.'
    own = [method for method in METHODS if f'{method}_{data}' in measured]
    lines += ['', _row(_COLUMNS), '|---' * len(_COLUMNS) + '|'] if own else []
    for method in own:
      recipe = f'{method}_{data}'
      variants = ', '.join(f'`:{name}`' for name in recipes.variants(recipe) if name)
      row = measured[recipe]
      cells = [row['measured'], row['published'], row['hardware'], row['time']]
      lines.append(_row([f'`ensdistill train {recipe}`', variants, *cells]))
  return '\n'.join(lines) + '\n'


def _cell(method: str, data: str, measured) -> str:
  if f'{method}_{data}' in measured:
    return 'file'
  return 'name' if recipes.fits(method, data) else ''


def _row(cells: Sequence[str]) -> str:
  return f'| {" | ".join(cells)} |'


if __name__ == '__main__':
  main()
