"""The files of a report: one page, and its tables in Markdown and LaTeX."""

import pathlib

from ensdistill.report import html, latex, tables
from ensdistill.report.runs import Run, by_data
from ensdistill.storage import safe


def write_pages(runs: list[Run], out: pathlib.Path) -> str:
  """Write the page `out` and the tables beside it as .md and .tex; return the Markdown.

  Each data set has a table of its own.
  """
  groups = by_data(runs)
  markdown = '\n'.join(
    (f'## {name}\n\n' if len(groups) > 1 else '') + tables.markdown(group)
    for name, group in groups.items()
  )
  safe.write_atomic(out, html.page(runs))
  safe.write_atomic(out.with_suffix('.md'), markdown)
  safe.write_atomic(out.with_suffix('.tex'), '\n'.join(map(latex.booktabs, groups.values())))
  return markdown
