"""Write one page and one table over finished runs.

The page is FILE (--out), by default report.html in the folder of a single run, or ./comparison.html
for several runs. The tables lie beside it as .md and .tex; a table of the main columns is also
printed, or of all of them (--wide).
"""

import pathlib
import webbrowser
from collections.abc import Sequence

from ensdistill import paths
from ensdistill.commands.usage import Parser, fail, memory_in_one_line, reason, stoppable
from ensdistill.report.pages import write_pages
from ensdistill.report.runs import read_runs
from ensdistill.report.tables import narrow
from ensdistill.storage import safe


@stoppable
@memory_in_one_line()
def main(arguments: Sequence[str] | None = None, prog: str = 'python -m ensdistill.report') -> None:
  """Run the command with its arguments, those of the process by default."""
  parser = Parser(prog=prog, description=__doc__)
  parser.add_argument('folders', nargs='+', metavar='RUN_DIR', help='folder of a finished run')
  parser.add_argument('--out', type=pathlib.Path, metavar='FILE', help='the page, an .html file')
  parser.add_argument('--wide', action='store_true', help='print all columns, in Markdown')
  parser.add_argument('--open', action='store_true', help='open the page in a browser')
  options = parser.parse_args(arguments)
  if options.out and options.out.suffix != '.html':
    fail(2, f'--out={options.out} is the page: give it the suffix .html')
  try:
    for path in options.folders:
      paths.check('RUN_DIR', path)
    paths.check('--out', options.out)
  except ValueError as error:
    fail(2, str(error))
  try:
    runs = read_runs(options.folders)
  except (OSError, ValueError) as error:
    fail(1, reason(error))
  out = options.out or _default_page([run.folder for run in runs])
  try:
    safe.make_folder(out.parent)
    text = write_pages(runs, out)
  except ValueError as error:
    fail(2, str(error))
  except OSError as error:
    fail(1, reason(error))
  print(text if options.wide else narrow(runs))
  print(f'page: {out}\ntables: {out.with_suffix(".md")}, {out.with_suffix(".tex")}')
  if options.open and not webbrowser.open(out.absolute().as_uri()):
    print(f'no browser was found: open {out.absolute().as_uri()}')


def _default_page(folders: list[pathlib.Path]) -> pathlib.Path:
  return folders[0] / 'report.html' if len(folders) == 1 else pathlib.Path('comparison.html')
