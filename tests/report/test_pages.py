"""Pages and tables of several runs."""

import json
import re

from reports import Page

from ensdistill.report import columns
from ensdistill.report.pages import write_pages
from ensdistill.report.runs import read_runs
from ensdistill.storage import seals


def second_run(finished, tmp_path):
  """Return the folder of a run with a worse student and no pictures."""
  folder, written = finished
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'config.json').write_text((folder / 'config.json').read_text())
  changed = json.loads(json.dumps(written))
  changed['rows'][-1]['metrics'] |= {'nll': 9.0, 'gap_closed/nll': -50.0}
  changed['rows'][-1]['test_se'] = {'nll': 0.1}
  seals.write_json(other / 'results.json', changed)
  return other


def test_pages_compare_runs(finished, tmp_path):
  folder, written = finished
  other = second_run(finished, tmp_path)
  out = tmp_path / 'pages' / 'all.html'
  markdown = write_pages(read_runs([folder, other]), out)
  assert markdown == out.with_suffix('.md').read_text()
  lines = {line.split('|')[1].strip(): line for line in markdown.splitlines()}
  assert list(lines) == ['model', '---', 'member', 'ensemble-2', 'ensemble-3', 'tiny', 'other']
  nll = [c.key for c in columns.table_columns(written['rows'])].index('nll') + 2
  bold = f'**{written["rows"][-1]["metrics"]["nll"]:.4f} ±'
  assert lines['tiny'].split('|')[nll].strip().startswith(bold)
  assert '9.0000' in lines['other'] and r'\toprule' in out.with_suffix('.tex').read_text()
  page = Page(out.read_text())
  assert all(s.startswith(('data:', '#')) for s in page.sources)
  assert re.search('differ by less than the noise in [^.]*NLL', page.text)  # it is the same there
  assert page.text.count('ensemble-3') == 2  # in the table, and in that of its folded columns
  assert len([t for t, _ in page.tags if t == 'img']) == 10  # the joint one, and the first run's
  assert 'is missing' in page.text  # the second run has no pictures


def test_a_single_run_is_written_anew_in_its_folder(finished):
  folder, _ = finished
  before = (folder / 'report.html').read_text()
  write_pages(read_runs([folder]), folder / 'report.html')
  assert (folder / 'report.html').read_text() == before
  assert (folder / 'report.md').exists()
