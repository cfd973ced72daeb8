"""The files of a report: one page, and its tables in Markdown and LaTeX."""

import pathlib
import re

from ensdistill.report import appendix, html, latex, tables
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
  joint = {name: _joint(group) for name, group in groups.items() if len(group) > 1}
  safe.write_atomic(out, html.page(runs, joint))
  safe.write_atomic(out.with_suffix('.md'), markdown)
  safe.write_atomic(out.with_suffix('.tex'), '\n'.join(map(latex.booktabs, groups.values())))
  return markdown


def _joint(group: list[Run]) -> list[dict]:
  """Return the pictures of several runs on the same data."""
  from ensdistill.report import figures  # imports matplotlib

  data = re.escape(group[0].config['data']['name'])
  rows = [row._replace(label=re.sub(rf'_{data}\b', '', row.label)) for row in tables.joined(group)]
  found = []
  for function, title in figures.JOINT.values():
    wide = figures.draw_joint(function, rows)
    if wide is not None:
      small = figures.draw_joint(function, rows, narrow=True)
      found.append(appendix.drawn(title, figures.caption_of(function), wide, small))
  return found
