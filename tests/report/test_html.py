"""Pages are whole, self-contained, and shown by a browser without complaint."""

import base64
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from reports import Page, gap_rows

from ensdistill.report import html, runs, verdict


def test_the_page_is_whole_and_asks_for_nothing(finished):
  folder, written = finished
  text = (folder / 'report.html').read_text()
  page = Page(text)
  assert page.sources and all(s.startswith(('data:', '#')) for s in page.sources)
  assert not re.search(r'url\(|@import|<script|<iframe', text) and 'prefers-color-scheme' in text
  assert any(t == 'meta' and a.get('name') == 'viewport' for t, a in page.tags)
  assert verdict.sentence('The student', written['rows'], written['rows'][-1]) in page.text
  bars = [a['aria-label'] for t, a in page.tags if a.get('role') == 'img']
  assert len(bars) == len(verdict.gaps(written['rows'], written['rows'][-1]).closed) > 2
  images = [a for t, a in page.tags if t == 'img']
  assert len(images) == len(written['pictures']) == 9 and all(len(a['alt']) > 60 for a in images)
  for image in images:
    kind, content = image['src'].split(';base64,')
    assert kind == 'data:image/svg+xml'
    assert ET.fromstring(base64.b64decode(content)).tag.endswith('svg')
  assert all(caption in page.text for caption in written['pictures'].values())
  config = json.loads((folder / 'config.json').read_text())
  assert json.dumps(config, indent=2, sort_keys=True) in page.text
  assert f'jax {written["versions"]["jax"]}' in page.text
  assert f'python -m ensdistill.report {folder}' in page.text
  assert 'ood/lost: the folder is not there' in page.text
  assert page.text.count('ensemble-3') == 2  # its row, and that of the folded columns


CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'chrome'))), None)


# How the browser's log marks what a page asks for, other than the browser itself.
BY_PAGES = '"traffic_annotation":101845102,"url":"'


def opened(page, folder):
  """Return a page's document, the lines of its console, and its requests, from a browser."""
  log = folder / 'net.json'
  flags = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--no-first-run',
    '--enable-logging=stderr',
  ]
  flags += ['--host-resolver-rules=MAP * ~NOTFOUND', '--disable-background-networking']
  flags += [f'--user-data-dir={folder / "profile"}', f'--log-net-log={log}', '--dump-dom']
  found = subprocess.run(
    [CHROMIUM, *flags, page.absolute().as_uri()], capture_output=True, text=True, timeout=240
  )
  console = [line for line in found.stderr.splitlines() if ':CONSOLE' in line]
  asked = re.findall(f'{BY_PAGES}(http[^"]*)"', log.read_text(errors='replace'))
  return Page(found.stdout), console, set(asked)


@pytest.mark.skipif(CHROMIUM is None, reason='no chromium is installed')
def test_a_browser_shows_the_page_without_complaint_or_request(finished, tmp_path):
  folder, written = finished
  page, console, asked = opened(folder / 'report.html', tmp_path)
  assert verdict.sentence('The student', written['rows'], written['rows'][-1]) in page.text
  assert f'{100 * written["rows"][-1]["metrics"]["acc"]:.2f}' in page.text
  assert not console and not asked
  bad = tmp_path / 'bad.html'
  bad.write_text('<p>text<script>console.error("oops")</script><img src="http://elsewhere.test/x">')
  page, console, asked = opened(bad, tmp_path)
  assert (
    page.text.startswith('text') and 'oops' in console[0] and asked == {'http://elsewhere.test/x'}
  )


def test_bars_stand_where_their_values_are():
  rows = gap_rows()
  found = html.bars('The student', rows, rows[-1])['bars']
  zero, one = (100 * html._share(v) for v in (0, 1))
  assert [float(bar['left']) for bar in found] == pytest.approx([zero, zero], abs=0.06)
  widths = [0.9 * (one - zero), 0.5 * (one - zero)]
  assert [float(bar['width']) for bar in found] == pytest.approx(widths, abs=0.06)
  assert [bar['error'] is not None for bar in found] == [True, False]  # one has several seeds
  rows[-1]['metrics']['gap_closed/nll'] = -3.0
  below = html.bars('The student', rows, rows[-1])['bars'][1]
  assert below['below'] and below['left'] == '0.0'
  assert below['beyond'] + below['value'] == '◂ -300 %'


def test_names_cannot_break_the_page(finished):
  folder, written = finished
  (run,) = runs.read_runs([folder])
  bad = run._replace(label='<script>x</script> & "q"')
  text = html.page([bad])
  assert '<script' not in text and '&lt;script&gt;' in text


def test_matplotlib_waits_until_something_is_drawn():
  code = 'import sys; import ensdistill.report.html; sys.exit("matplotlib" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
