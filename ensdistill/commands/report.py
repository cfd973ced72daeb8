"""One page and one table over finished runs: python -m ensdistill.report RUN_DIR [RUN_DIR ...].

Writes FILE (--out, an HTML page) and, beside it, the table as .md and .tex; prints the table.
"""

import pathlib
import sys

from ensdistill.commands.usage import Parser
from ensdistill.report import html, latex, tables
from ensdistill.report import runs as runs_lib
from ensdistill.storage import safe


def main(argv=None) -> int:
  parser = Parser(prog='python -m ensdistill.report', description=__doc__)
  parser.add_argument('folders', nargs='+', metavar='RUN_DIR', help='folder of a finished run')
  parser.add_argument(
    '--out',
    type=pathlib.Path,
    metavar='FILE',
    help='the page (default: report.html of a single run, ./comparison.html of several)',
  )
  given = parser.parse_args(argv)
  try:
    runs = runs_lib.read(given.folders)
  except ValueError as error:
    print(f'ensdistill: {error}', file=sys.stderr)
    return 2
  out = given.out or (
    runs[0].folder / 'report.html' if len(runs) == 1 else pathlib.Path('comparison.html')
  )
  if out.suffix in ('.md', '.tex', ''):
    print(f'ensdistill: --out={out} is the page: give it the suffix .html', file=sys.stderr)
    return 2
  text, tex = write(runs, out)
  print(text)
  print(f'page: {out}\ntables: {out.with_suffix(".md")}, {out.with_suffix(".tex")}')
  return 0


def write(runs: list[runs_lib.Run], out: pathlib.Path) -> tuple[str, str]:
  """Writes page and tables; -> the tables as Markdown and LaTeX, one for each data set."""
  groups = runs_lib.by_data(runs)
  head = len(groups) > 1
  text = '\n'.join((f'## {n}\n\n' if head else '') + tables.markdown(g) for n, g in groups.items())
  tex = '\n'.join(map(latex.tables, groups.values()))
  safe.write_atomic(out, html.page(runs))
  safe.write_atomic(out.with_suffix('.md'), text)
  safe.write_atomic(out.with_suffix('.tex'), tex)
  return text, tex
