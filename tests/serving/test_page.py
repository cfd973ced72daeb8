"""The page in a browser: drawing, files, rows, keys, and what it shows."""

import io
import json

import browser
import numpy as np
import PIL.Image
import pytest

from .conftest import COLUMNS, RANDOM, TABLE

pytest.importorskip('websockets')
if browser.executable() is None:
  pytest.skip('no Chromium: install it, or set CHROMIUM to its path', allow_module_level=True)

RESULT = "!document.getElementById('results').hidden"
PIXELS = """(() => { const c = document.getElementById('preview');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  return Array.from({length: c.width * c.height}, (_, i) => d[4 * i]); })()"""
SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.4, 0.85)]


@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
  own = browser.Browser(tmp_path_factory.mktemp('chromium'))
  yield own
  own.close()


@pytest.fixture
def page(chromium, running):
  found = []

  def opened(model, **settings):
    found.append(chromium.page(f'{running.address}/?model={model}', **settings))
    found[-1].wait("document.getElementById('about').innerText")
    return found[-1]

  yield opened
  for one in found:
    one.close()


def bars(own):
  """Return the shown probabilities in percent."""
  texts = own.value(
    "[...document.querySelectorAll('#probabilities .value')].map((e) => e.innerText)"
  )
  return [float(text.strip('<> %')) for text in texts]


def test_a_drawing_is_predicted_as_the_library_does(page, running, students):
  own = page('digits')
  assert own.text('#empty').startswith('Draw something')
  own.draw('#pad', SEVEN)
  own.wait(RESULT)
  own.value('new Promise((done) => setTimeout(done, 400))')
  pixels = np.array(own.value(PIXELS), np.uint8).reshape(1, 8, 8, 1)
  assert pixels.max() > 200 and pixels.min() == 0
  p = students['digits'].predict(pixels)
  np.testing.assert_allclose(bars(own), 100 * p.probs[0], atol=0.06)
  label = str(p.probs[0].argmax())
  assert own.text('#headline .label') == label
  assert own.text('#members .content').count('\n') >= 3
  own.wait(f"document.getElementById('status').innerText.startsWith('{label}')")
  own.click('#set label:nth-of-type(4)')
  expected = [str(k) for k in np.flatnonzero(p.predict_set(0.99)[0])]
  own.wait(f"""JSON.stringify([...document.querySelectorAll('.chips li')].map((e) => e.innerText))
    === {json.dumps(json.dumps(expected, separators=(',', ':')))}""")
  own.click('#clear')
  own.wait(f'!({RESULT})')
  assert not own.problems()
  assert {address.split('/')[2] for address in own.addresses() if address.startswith('http')} == {
    running.address.removeprefix('http://')
  }


def test_the_same_drawing_anywhere_gives_the_same_pixels(page):
  own = page('digits')
  found = []
  for scale, shift in ((1, 0), (0.5, 0.05), (0.5, 0.45)):
    own.draw('#pad', [(scale * x + shift, scale * y + shift) for x, y in SEVEN])
    own.wait(RESULT)
    found.append(np.array(own.value(PIXELS), int))
    own.click('#clear')
  for other in found[1:]:
    assert np.abs(found[0] - other).max() <= 40
  own.click('#centre')
  own.draw('#pad', [(0.5 * x, 0.5 * y) for x, y in SEVEN])
  own.wait(RESULT)
  pixels = np.array(own.value(PIXELS)).reshape(8, 8)
  assert pixels[:4, :4].sum() > 0 and pixels[5:, 5:].sum() == 0


def test_drawing_by_keyboard(page):
  own = page('digits')
  own.value("document.getElementById('pad').focus()")
  own.press(' ')
  own.press('ArrowDown', 10)
  own.press('ArrowRight', 10)
  own.wait(RESULT)
  own.press(' ')
  assert sum(own.value(PIXELS)) > 0
  own.press('Delete')
  own.wait(f'!({RESULT})')


def test_an_image_file(page, students, tmp_path):
  x = RANDOM.integers(0, 256, (40, 60, 3)).astype(np.uint8)
  PIL.Image.fromarray(x).save(tmp_path / 'x.png')
  own = page('colour')
  own.choose('#file', tmp_path / 'x.png')
  own.wait(RESULT)
  file = io.BytesIO((tmp_path / 'x.png').read_bytes())
  small = PIL.Image.open(file).resize((4, 4), PIL.Image.Resampling.BILINEAR, (10, 0, 50, 40))
  expected = students['colour'].predict(np.asarray(small)).probs[0]
  np.testing.assert_allclose(bars(own), 100 * expected, atol=0.06)
  assert 'no prediction set' in own.text('#set')
  (tmp_path / 'y.png').write_bytes(b'nothing')
  own.choose('#file', tmp_path / 'y.png')
  own.wait("!document.getElementById('error').hidden")
  assert 'cannot identify image' in own.text('#error')


def test_a_row_by_keyboard(page, students):
  own = page('table')
  own.wait(RESULT)  # the typical row
  own.value("document.querySelector('#fields input').focus()")
  for name, value in zip(COLUMNS, TABLE[3].tolist()):
    own.value('document.activeElement.select()')
    assert own.value('document.activeElement.labels[0].innerText') == name
    own.type(repr(value))
    own.press('Tab')
  own.value("document.querySelector('#row-input .primary').focus()")
  own.press('Enter')
  expected = students['table'].predict(TABLE[3:4]).probs[0]
  own.wait(f"""Math.abs(parseFloat(document.querySelector('#probabilities .value')
    .innerText) - {100 * expected[0]}) < 0.06""")
  assert 'members say' in own.text('#members')
  own.value("document.querySelector('#fields input').select()")
  own.type('-9e9')
  own.wait("document.querySelector('#headline').innerText.includes('far outside')")
  own.type('x')


def test_regression(page, students):
  own = page('values')
  own.wait(RESULT)
  own.click('#paste summary')
  own.click('#pasted')
  own.type(', '.join(map(repr, TABLE[5].tolist())))
  p = students['values'].predict(TABLE[5:6])
  mean = f'{p.mean[0, 0]:.2f}'
  own.wait(f"""Math.abs(parseFloat(document.querySelector('#headline .label').innerText
    .replace(/,/g, '')) - {mean}) <= 0.006 * Math.abs({mean})""")
  assert own.value("document.querySelectorAll('#members .axis .member').length") == 3
  assert own.value("document.getElementById('probabilities').hidden")
  assert 'at least 90 %' in own.text('#set') and not own.problems()
  before = own.value("[...document.querySelectorAll('#fields input')].map((i) => i.value).join()")
  for text, words in (('1,,2', 'value 2 is not a number: nothing'), ('1 2', '2 values for 3')):
    own.value("document.getElementById('pasted').value = ''")
    own.click('#pasted')
    own.type(text)
    own.wait(f"document.getElementById('paste-problem').innerText.includes('{words}')")
  after = own.value("[...document.querySelectorAll('#fields input')].map((i) => i.value).join()")
  assert after == before


def test_more_and_fewer_classes(page):
  own = page('digits')
  shown = own.value("""import('/page/results.js').then(({show}) => [20, 12, 14, 3].map((n) => {
    const classes = Array.from({length: n}, (_, k) => `${k}`), share = 1 / n;
    const row = {label: '0', confidence: share, probabilities: classes.map(() => share),
      total: 1, data: 1, knowledge: 0};
    show({classes, members: 0, total: null}, {predictions: [row]}, 0.9);
    return document.querySelectorAll('#probabilities li').length; }))""")
  assert shown == [11, 12, 11, 3] and not own.problems()


def test_a_server_that_does_not_predict(page, running, monkeypatch):
  own = page('digits')
  monkeypatch.setattr(running.service, 'ready', False)
  own.draw('#pad', SEVEN)
  own.wait("document.getElementById('error').innerText === 'the server is starting'")
  monkeypatch.undo()
  own.wait(RESULT)  # without another stroke
  own.offline(True)
  own.draw('#pad', SEVEN)
  own.wait("document.getElementById('error').innerText.startsWith('The server does not answer')")
  own.offline(False)
  own.draw('#pad', SEVEN)
  own.wait(RESULT)


def test_the_choice_of_a_student(page):
  own = page('digits')
  own.value("document.getElementById('model').focus()")
  own.press('ArrowDown')
  own.wait("document.getElementById('about').innerText.startsWith('table')")
  own.wait(RESULT)
  assert own.value("document.getElementById('image-input').hidden")


def test_the_order_of_the_tab_key_reaches_everything(page):
  own = page('digits')
  own.draw('#pad', SEVEN)
  own.wait(RESULT)
  own.value("document.querySelector('.skip').focus()")
  found = []
  for _ in range(14):
    own.press('Tab')
    found.append(own.focused())
  places = [found.index(name) for name in ('model', 'pad', 'clear', 'undo', 'choose', 'centre')]
  assert places == sorted(places)
  named = own.value("""[...document.querySelectorAll(`button, input:not([aria-hidden]), select,
    textarea, canvas`)].every((e) => e.innerText || e.labels?.length || e.ariaLabel || e.hidden)""")
  assert named


@pytest.mark.parametrize(
  ('model', 'dark'),
  [
    ('digits', False),
    ('table', True),
    *(
      pytest.param(*pair, marks=pytest.mark.slow)
      for pair in (('digits', True), ('table', False), ('values', True), ('colour', False))
    ),
  ],
)
def test_a_phone_needs_no_horizontal_scroll(page, model, dark):
  own = page(model, width=360, height=740, dark=dark)
  if model == 'digits':
    own.draw('#pad', SEVEN)
  if model != 'colour':
    own.wait(RESULT)
  wide = """[...document.querySelectorAll('body *')].filter(
    (e) => !e.closest('.scroll, svg, .hidden, .skip')"""
  assert own.value('document.documentElement.scrollWidth') <= 360
  assert own.value(f'{wide} && e.getBoundingClientRect().right > 360.5).map((e) => e.id)') == []
  contrast = """(() => {
    const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const luminance = (c) => {
      const [r, g, b] = c.match(/[\\d.]+/g).map((v) => linear(v / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const style = (s, p) => getComputedStyle(document.querySelector(s))[p];
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const card = luminance(style('.card', 'backgroundColor'));
    document.querySelector('#headline').append(
      Object.assign(document.createElement('span'), {className: 'badge'}));
    return ['#input-title', '#pad-help', '.error', '#about', '.badge'].map(
      (s) => ratio(luminance(style(s, 'color')), card)); })()"""
  assert min(own.value(contrast)) >= 4.5
