"""Show the recipes: methods, data sets and variants, or with --papers the papers."""

import textwrap
from collections.abc import Sequence
from importlib import metadata

from ensdistill.commands.usage import Parser, fail
from ensdistill.config import recipes
from ensdistill.config.recipes import DATA, METHODS, PAPERS, VARIANTS


def main(arguments: Sequence[str] | None = None, prog: str = 'ensdistill list') -> None:
  """Run the command with its arguments, those of the process by default."""
  parser = Parser(prog=prog, description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--papers', action='store_true', help='show the papers and their recipes')
  parser.add_argument(
    '--import', action='append', default=[], dest='imports', metavar='FILE', help='import parts'
  )
  options = parser.parse_args(arguments)
  if options.papers:
    print(papers())
    return
  try:
    own = own_parts(options.imports)
  except ValueError as error:
    fail(2, str(error))
  print(table() + own)


def own_parts(places: Sequence[str]) -> str:
  """Import files or modules; return the parts that they and installed packages register."""
  if not places and not metadata.entry_points(group='ensdistill.plugins'):
    return ''  # without JAX
  from ensdistill import plugins

  plugins.load_installed()
  for place in places:
    plugins.load(place, f'--import={place}')
  lines = ['', '', 'Imported parts:']
  for plugin in plugins.loaded():
    lines += [f'  {name:19} {kind:13} {plugin.place}' for kind, name in sorted(plugin.parts)]
  return '\n'.join(lines)


def table() -> str:
  """Return methods, data sets and variants, with a line for each."""
  lines = ['A recipe is METHOD_DATA[:VARIANT], such as hydra_cifar100:small.']
  lines += ['', 'Methods, for classification (C) or regression (R):']
  for name, method in METHODS.items():
    lines.append(f'  {name:19} {_letters(method.tasks):3}  {method.about}')
  lines += ['', 'Data sets (* lies in the folder --config.data.dir):']
  for name, data in DATA.items():
    mark = '*' if data.files else ' '
    lines.append(f'  {name:19} {_letters([data.task]):3}{mark} {data.about}')
  lines += ['', 'Variants:']
  lines += [f'  {f":{name}" if name else "":19}      {about}' for name, about in VARIANTS.items()]
  lines += [
    '',
    'ensdistill train RECIPE     trains it',
    'ensdistill config RECIPE    shows its settings',
    'ensdistill list --papers    shows the papers, and their experiments',
  ]
  return '\n'.join(lines)


def _letters(tasks: Sequence[str]) -> str:
  return ' '.join(letter for letter in 'CR' if letter.lower() in [task[0] for task in tasks])


def papers() -> str:
  """Return the citation and the methods of every paper, and a table of its experiments.

  The lines of the table are the commands, below their data set and what the experiments lack.
  """
  blocks = []
  for name, paper in PAPERS.items():
    title = f'{name} (paper {paper.number})' if paper.number else name
    lines = [title, *_indented(paper.citation), *_indented('methods: ' + ', '.join(paper.methods))]
    for (data, lacks), recipes_of in _grouped(paper.experiments).items():
      lines += ['', *_indented(f'{data}: {lacks}' if lacks else data)]
      lines += [f'    {method:19} ensdistill train {recipe}' for method, recipe in recipes_of]
    blocks.append('\n'.join(lines))
  return '\n\n'.join([_PAPERS_HEAD, *blocks])


_PAPERS_HEAD = """\
The experiments of the papers: data set, what differs from the paper, and for
each method the command. "Not known, ours": no source states the setting.
:paper is the setting of the method's own paper, :paperN that of paper N."""


def _grouped(experiments) -> dict[tuple[str, str], list[tuple[str, str]]]:
  """Return {(data set, what is lacking): [(method, recipe)]}."""
  groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
  for recipe, experiment in experiments.items():
    found = recipes.method_and_data(recipe.partition(':')[0])
    assert found is not None  # the experiments are of known recipes
    method, data = found
    groups.setdefault((data, experiment.lacks), []).append((method, recipe))
  return groups


def _indented(text: str) -> list[str]:
  return textwrap.wrap(
    text, 80, initial_indent='  ', subsequent_indent='  ', break_on_hyphens=False
  )
