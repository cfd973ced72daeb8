"""Pages are whole, self-contained, and shown by a browser without complaint."""

import base64
import importlib.util
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import browser
import numpy as np
import page_checks
import pytest
from PIL import Image
from reports import Page, gap_rows

from ensdistill.report import html, runs, verdict
from ensdistill.report.pages import write_pages


@pytest.fixture(scope='module')
def pages(finished, tmp_path_factory):
  """Return the page of one run, and one that compares three."""
  folder, _ = finished
  (run,) = runs.read_runs([folder])
  several = [run._replace(label=f'{name}_with_a_long_name') for name in ('hydra', 'kd', 'be')]
  out = tmp_path_factory.mktemp('pages') / 'comparison.html'
  write_pages(several, out)
  return folder / 'report.html', out


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


needs_a_browser = pytest.mark.skipif(
  not browser.executable() or importlib.util.find_spec('websockets') is None,
  reason='no chromium, or no websockets to drive it',
)


@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
  own = browser.Browser(tmp_path_factory.mktemp('chromium'))
  yield own
  own.close()


def logged(page):
  """Return what the console has, and what was asked for from outside of the page."""
  console = page._events('Runtime.consoleAPICalled') + page.problems()
  return console, {url for url in page.addresses() if not url.startswith('data:')}


@needs_a_browser
@pytest.mark.parametrize('dark', [False, True])
@pytest.mark.parametrize('width', [360, 1000])
def test_a_browser_shows_pages_without_complaint_or_request(finished, pages, chromium, width, dark):
  """For one run and for several: no request, no error, no scrolling sideways, enough contrast."""
  _, written = finished
  for path in pages:
    url = path.absolute().as_uri()
    page = chromium.page(url, width=width, dark=dark)
    assert page.value(page_checks.TOO_WIDE) <= 0
    page.value('for (const d of document.querySelectorAll("details")) d.open = true')
    assert page.value(page_checks.TOO_WIDE) <= 0
    assert not page.value(page_checks.LOW_CONTRAST)
    assert f'{100 * written["rows"][-1]["metrics"]["acc"]:.2f}' in page.text('body')
    pictures = page.value(
      '[...document.images].map(i => [i.naturalWidth, i.width <= i.closest(".card").clientWidth])'
    )
    assert pictures and all(natural and fits for natural, fits in pictures)
    assert logged(page) == ([], {url})
    page.close()


@needs_a_browser
def test_the_first_column_stays_and_the_glossary_is_one_click_away(finished, chromium):
  folder, _ = finished
  page = chromium.page((folder / 'report.html').absolute().as_uri(), width=360)
  moved = page.value("""(() => {
    const box = document.querySelector('.scroll'), stub = box.querySelector('tbody .stub');
    const before = stub.getBoundingClientRect().left;
    box.scrollLeft = 150;
    return [box.scrollLeft, stub.getBoundingClientRect().left - before];
  })()""")
  assert moved[0] == 150 and abs(moved[1]) < 1
  places = page.value("""[...document.querySelectorAll('th a')].map(
    a => !!document.getElementById(a.getAttribute('href').slice(1)))""")
  assert len(places) > 5 and all(places)


@needs_a_browser
def test_pictures_follow_the_preference_for_dark(finished, chromium):
  """Lines are light on a dark page, and dark on a light one."""
  folder, written = finished
  name = next(iter(written['pictures']))
  path = folder / 'one.html'
  path.write_text(
    '<style>:root{color-scheme:light dark}body{margin:0}</style>'
    f'<img src="figures/{name}.svg" width=600>'
  )
  found = {}
  for dark in (False, True):
    page = chromium.page(path.absolute().as_uri(), width=700, dark=dark)
    page.wait('document.images[0].complete')
    page.screenshot(folder / 'one.png', whole=False)
    pixels = np.asarray(Image.open(folder / 'one.png').convert('L'), float)[:400, :600]
    found[dark] = np.median(pixels), pixels.min(), pixels.max()
  assert found[False][0] > 240 and found[False][1] < 60
  assert found[True][0] < 40 and found[True][2] > 200


@needs_a_browser
def test_what_is_wrong_is_noticed(chromium, tmp_path):
  bad = tmp_path / 'bad.html'
  bad.write_text(
    '<meta name="viewport" content="width=device-width, initial-scale=1, minimum-scale=1">'
    '<body style="margin:0;background:#fff"><p style="color:#bbb;width:900px">text<script>'
    'console.error("oops")</script><img src="http://127.0.0.1:9/x">'
  )
  page = chromium.page(bad.as_uri(), width=700)
  console, requests = logged(page)
  assert any('oops' in str(line) for line in console)
  assert 'http://127.0.0.1:9/x' in requests
  assert page.value(page_checks.TOO_WIDE) == 200
  assert page.value(page_checks.LOW_CONTRAST) == ['text: 1.92']


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
  assert below['beyond'] + below['value'] == '< -100 %'
  rows[-1]['metrics']['gap_closed/nll'] = -0.5
  below = html.bars('The student', rows, rows[-1])['bars'][1]
  assert below['beyond'] + below['value'] == '◂ -50 %'


def test_a_whisker_that_leaves_the_track_has_no_end_there():
  rows = gap_rows()
  rows[-1]['se']['gap_closed/acc'] = 0.5  # 0.9 ± 0.5: the track ends at 1.25
  (first, _) = html.bars('The student', rows, rows[-1])['bars']
  assert first['error']['cut'] == ['right']
  assert float(first['error']['left']) + float(first['error']['width']) == pytest.approx(100)
  rows[-1]['metrics']['gap_closed/acc'] = -0.5  # -0.5 ± 0.5: the track begins at -0.25
  (first, _) = html.bars('The student', rows, rows[-1])['bars']
  assert first['beyond'] and first['error']['cut'] == ['left']
  rows[-1]['metrics']['gap_closed/acc'] = 5.0
  (first, _) = html.bars('The student', rows, rows[-1])['bars']
  assert first['beyond'] and first['error'] is None


def test_names_cannot_break_the_page(finished):
  folder, written = finished
  (run,) = runs.read_runs([folder])
  bad = run._replace(label='<script>x</script> & "q"')
  text = html.page([bad])
  assert '<script' not in text and '&lt;script&gt;' in text


def test_matplotlib_waits_until_something_is_drawn():
  code = 'import sys; import ensdistill.report.html; sys.exit("matplotlib" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
