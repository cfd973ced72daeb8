"""The documentation site: `make docs` builds docs/_build/html, with all notebooks executed."""

import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['PYTHONPATH'] = os.pathsep.join(
  [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
)  # of the notebooks' kernels

import ensdistill  # noqa: E402
from ensdistill import names  # noqa: E402
from ensdistill.config import help as helps  # noqa: E402
from ensdistill.config import identity, settings  # noqa: E402
from ensdistill.report import glossary  # noqa: E402

project = 'ensdistill'
author = 'the authors of ensdistill'
copyright = author
version = release = ensdistill.__version__

extensions = [
  'myst_nb',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
]
exclude_patterns = ['_build', '_generated', 'README.md', '**/.ipynb_checkpoints']
templates_path: list[str] = []

myst_enable_extensions = ['dollarmath', 'amsmath', 'deflist', 'colon_fence']
myst_heading_anchors = 4
nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_execution_in_temp = True  # runs of notebooks leave nothing behind

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
napoleon_google_docstring = True
napoleon_use_ivar = True

html_math_renderer = 'mathml'
html_theme = 'sphinx_book_theme'
html_title = 'ensdistill'
html_theme_options = {'show_toc_level': 2, 'home_page_in_toc': False}


def outside(app, docname, source):
  """Show links to files outside of docs/ as their paths in the repository."""
  del app
  place = pathlib.Path(docname).parent

  def shown(found):
    text, target = found[1], found[2]
    path = (ROOT / 'docs' / place / target.partition('#')[0]).resolve()
    if path.is_relative_to(ROOT / 'docs'):
      return found[0]
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
    return f'`{name}`' if text.strip('`').startswith('..') else f'{text} (`{name}`)'

  if docname == 'index':  # a page that does not exist yet is left out of the contents
    lines = source[0].splitlines()
    kept = [line for line in lines if not line.endswith('*') or _pages(line)]
    source[0] = '\n'.join(kept)
  source[0] = re.sub(r'(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)', shown, source[0])


def _pages(pattern: str) -> list[pathlib.Path]:
  return list((ROOT / 'docs').glob(f'{pattern}.md'))


SECTIONS = ('Args:', 'Attributes:', 'Example:', 'Examples:', 'Returns:', 'Raises:', 'Yields:')


def formulas(app, what, name, found, options, lines):
  """Show indented lines of a docstring, which are formulas, as they are."""
  del app, what, name, found, options
  shown, inside, section, heading = [], False, False, ''
  for line in lines:
    indented = line.startswith(' ')
    if line.strip() and not indented:
      heading = line.strip()
      section = line.strip() in SECTIONS or line.lstrip().startswith(('- ', '* '))
    begins = indented and not inside and not section
    if begins and shown:
      shown += ['', '::', '']
      inside = True
    elif inside and line.strip() and not indented:
      shown.append('')
      inside = False
    elif not line.strip():
      inside = False
    literal = inside or section and indented and 'Example' in heading
    shown.append(line if literal else _escaped(line))
  lines[:] = shown


def _escaped(line: str) -> str:
  """Return a line of a docstring without marks that reStructuredText would interpret."""
  parts = line.split('`')
  parts[::2] = [re.sub(r'(\w)_(?!\w)', r'\1\_', part).replace('|', r'\|') for part in parts[::2]]
  return '`'.join(parts)


def generated():
  """Write the pages that the code knows best: settings and metrics."""
  folder = ROOT / 'docs' / '_generated'
  folder.mkdir(exist_ok=True)
  (folder / 'metrics.md').write_text(glossary.markdown())
  (folder / 'settings.md').write_text(settings_page())


def settings_page() -> str:
  """Return a table of every setting for each section, with its default and its line of help."""
  lines, section = [], None
  for name, value in names.flatten(identity.to_json(settings.default())).items():
    first = name.partition('.')[0] if '.' in name else 'run'
    if first != section:
      lines += ['', f'## {first}', '', '| setting | default | meaning |', '|---|---|---|']
      section = first
    default, words = helps.default_of(name, value), helps.help_of(name).replace('|', r'\|')
    lines.append(f'| `{name}` | `{default}` | {words} |')
  return '\n'.join(lines) + '\n'


def _mathml(translator, node, display: str) -> None:
  """Write a formula as MathML, which browsers show without a script or a request."""
  from docutils import nodes
  from latex2mathml import converter

  text = node.astext().replace(r'\arg\max', r'\operatorname{arg\,max}')
  formula = converter.convert(text, display=display)
  if display == 'block':
    formula = f'<div style="overflow-x:auto;margin:1rem 0;font-size:1.1em">{formula}</div>'
  translator.body.append(formula)
  raise nodes.SkipNode


def inline_math(translator, node):
  """Write a formula in a line."""
  _mathml(translator, node, 'inline')


def block_math(translator, node):
  """Write a formula on a line of its own."""
  _mathml(translator, node, 'block')


def setup(app):
  """Connect what changes sources."""
  generated()
  app.add_html_math_renderer('mathml', (inline_math, None), (block_math, None))
  app.connect('source-read', outside)
  app.connect('autodoc-process-docstring', formulas, priority=400)  # before napoleon
