"""Write one page and one table over finished runs.

The page is FILE (--out), by default report.html in the folder of a single run, or ./comparison.html
for several runs. The tables lie beside it as .md and .tex; the table is also printed.
"""

import pathlib
import sys
from collections.abc import Sequence

from ensdistill.commands.usage import Parser
from ensdistill.report.pages import write_pages
from ensdistill.report.runs import read_runs


def main(argv: Sequence[str] | None = None) -> int:
  """Run the command with these arguments; return its exit code."""
  parser = Parser(prog='python -m ensdistill.report', description=__doc__)
  parser.add_argument('folders', nargs='+', metavar='RUN_DIR', help='folder of a finished run')
  parser.add_argument('--out', type=pathlib.Path, metavar='FILE', help='the page, an .html file')
  given = parser.parse_args(argv)
  try:
    runs = read_runs(given.folders)
    out = _page(given.out, [run.folder for run in runs])
    text = write_pages(runs, out)
  except (OSError, ValueError) as error:
    print(f'ensdistill: {" ".join(str(error).split())}', file=sys.stderr)
    return 2 if isinstance(error, ValueError) else 1
  print(text)
  print(f'page: {out}\ntables: {out.with_suffix(".md")}, {out.with_suffix(".tex")}')
  return 0


def _page(out: pathlib.Path | None, folders: list[pathlib.Path]) -> pathlib.Path:
  """Return the file of the page; `out` is the user's choice."""
  if out is None:
    return folders[0] / 'report.html' if len(folders) == 1 else pathlib.Path('comparison.html')
  if out.suffix in ('.md', '.tex', ''):
    raise ValueError(f'--out={out} is the page: give it the suffix .html')
  return out
