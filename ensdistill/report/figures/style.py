"""The look of pictures: colours for colour-blind readers, light and dark, for page and phone."""

import contextlib
import contextvars
import io
import re
import weakref
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ensdistill.evaluation.rows import AVERAGED, ENSEMBLE, MEMBER, STUDENT, title

# Okabe and Ito's palette.
ORANGE, SKY, GREEN = '#E69F00', '#56B4E9', '#009E73'
YELLOW, BLUE, VERMILLION, PURPLE = '#F0E442', '#0072B2', '#D55E00', '#CC79A7'
GREY, PALE, GRID = '#666666', '#D9D9D9', '#EEEEEE'
INK = '#1C1E21'  # text and axes; not black, so that SVG files name it
# Colours of SVG files where the reader prefers a dark page. Text on coloured areas stays.
DARK = {
  INK: '#E6E7E9',
  GREY: '#A9AFB7',
  PALE: '#565C63',
  GRID: '#33383D',
  BLUE: '#62B5F0',
  VERMILLION: '#FF8A3D',
  GREEN: '#2FC79A',
}
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)

DPI = 110  # of bitmaps; figures are laid out at the same value, so texts are measured once
NARROW = 3.6  # inches: the width of a phone, where panels lie below each other
_narrow: contextvars.ContextVar[bool] = contextvars.ContextVar('narrow', default=False)
_stacked: weakref.WeakKeyDictionary[Figure, Any] = weakref.WeakKeyDictionary()  # their panels
SETTINGS: dict[Any, Any] = {
  'text.color': INK,
  'axes.edgecolor': INK,
  'axes.labelcolor': INK,
  'xtick.color': INK,
  'ytick.color': INK,
  'axes.facecolor': 'none',
  'text.parse_math': False,  # names of classes and columns may hold $
  'font.size': 9.0,
  'axes.titlesize': 9.5,
  'axes.labelsize': 9.0,
  'legend.fontsize': 8.0,
  'legend.frameon': False,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.linewidth': 0.7,
  'axes.grid': False,
  'lines.linewidth': 1.6,
  'image.cmap': 'cividis',
  'svg.fonttype': 'path',
  'svg.hashsalt': 'ensdistill',  # equal pictures are equal files
}


_COLOURS = {MEMBER: GREY, ENSEMBLE: BLUE, STUDENT: VERMILLION, AVERAGED: PURPLE}
_MARKERS = {MEMBER: 'o', ENSEMBLE: 's', STUDENT: 'D', AVERAGED: '^'}


class Look(NamedTuple):
  """How pictures show a model."""

  colour: str
  marker: str
  title: str


def look(role: str, size: int) -> Look:
  """Return how pictures show a model of this role; `size` counts the members of an ensemble."""
  return Look(_COLOURS[role], _MARKERS[role], title(role, size))


def input_names(dataset) -> tuple[str, ...]:
  """Return the names of a table's inputs."""
  count = dataset.train.x.shape[-1]
  return tuple(dataset.columns or (f'input {i + 1}' for i in range(count)))


@contextlib.contextmanager
def narrow(wanted: bool = True):
  """Draw for a phone: panels lie below each other, and legends have fewer columns."""
  token = _narrow.set(wanted)
  try:
    yield
  finally:
    _narrow.reset(token)


def is_narrow() -> bool:
  """Return whether pictures are drawn for a phone."""
  return _narrow.get()


def panels(rows: int, columns: int, *, width: float = 2.5, height: float = 2.4, **settings):
  """Return a figure and its axes [rows, columns], each of about this size in inches.

  On a phone all of them lie below each other, one column after the other.
  """
  if not is_narrow() or columns == 1:
    size = NARROW if is_narrow() else width * columns
    figure = Figure(figsize=(size, height * rows), dpi=DPI, layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False, **settings)
  ratios = settings.pop('height_ratios', (1,) * rows)
  shared = settings.pop('sharex', False), settings.pop('sharey', False)
  figure = Figure(figsize=(NARROW, height * rows * columns), dpi=DPI, layout='constrained')
  stacked = figure.subplots(rows * columns, 1, squeeze=False, height_ratios=ratios * columns)
  axes = stacked.reshape(columns, rows).T
  _share(axes, *shared)
  _stacked[figure] = axes
  return figure, axes


def _share(axes, sharex, sharey):
  """Give panels the scales of the first panel that they share them with."""
  for (row, column), ax in np.ndenumerate(axes):
    for share, first in (
      (ax.sharex, {'col': axes[0, column], True: axes[0, 0]}.get(sharex, ax)),
      (ax.sharey, {'row': axes[row, 0], True: axes[0, 0]}.get(sharey, ax)),
    ):
      if first is not ax:
        share(first)


def _label_all(axes):
  """Repeat labels of the outer panels at all panels, which no longer lie beside each other.

  A panel with a scale of its own has a label of its own, or needs none.
  """
  for column in axes.T:
    for ax in column[:-1]:
      if not ax.get_xlabel() and ax.get_shared_x_axes().joined(ax, column[-1]):
        ax.set_xlabel(column[-1].get_xlabel())
  for row in axes:
    for ax in row[1:]:
      if not ax.get_ylabel() and ax.get_shared_y_axes().joined(ax, row[0]):
        ax.set_ylabel(row[0].get_ylabel())


def log_axis(axis, most: int = 6):
  """Set the ticks of a logarithmic axis with limits: decades, and parts of them if they are few.

  Minor ticks would cost most of the drawing.
  """
  low, high = axis.get_view_interval()
  decades = np.log10(high / low)
  parts = (1, 2, 5) if decades < 1.5 else (1, 3) if decades < 2.5 else (1,)
  axis.set_major_locator(ticker.LogLocator(subs=parts, numticks=most))
  axis.set_minor_locator(ticker.NullLocator())
  axis.set_major_formatter('{x:g}')


def legend_below(figure, ax, columns: int = 2, **settings):
  """Draw the legend of `ax` below the whole figure, in as many columns as fit."""
  handles, labels = ax.get_legend_handles_labels()
  room = 13.5 * figure.get_figwidth()  # characters; a handle takes about seven
  fitting = int(room // (7 + max(map(len, labels), default=0)))
  columns = max(1, min(columns, fitting, len(labels)))
  columns = -(-len(labels) // -(-len(labels) // columns))  # rows of about equal length
  figure.legend(handles, labels, loc='outside lower center', ncols=columns, **settings)


def settle(figure):
  """Lay a figure out once; otherwise each drawing would repeat the layout, most of its cost."""
  if figure in _stacked:
    _label_all(_stacked[figure])
  if figure.get_layout_engine() is not None:
    fixed = any(axis.get_aspect() != 'auto' for axis in figure.axes)
    for _ in range(2 if fixed else 1):  # axes beside a colour bar need a second pass
      figure.get_layout_engine().execute(figure)
    figure.set_layout_engine('none')


def png(figure, dpi: int = DPI, limit: int = 150_000) -> bytes:
  """Return a PNG of at most `limit` bytes; the resolution is reduced until it fits."""
  while True:
    content = _png(figure, dpi)
    if len(content) <= limit or dpi <= 40:
      return content
    dpi = max(40, min(dpi - 10, int(dpi * (limit / len(content)) ** 0.5)))


def _png(figure, dpi: int) -> bytes:
  file = io.BytesIO()
  with matplotlib.rc_context(SETTINGS):
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(file)  # savefig would draw it twice
  return file.getvalue()


def svg(figure) -> bytes:
  """Return the picture as SVG; parts with thousands of points are bitmaps in it.

  It has no background, and its colours follow the reader's preference for light or dark.
  """
  file = io.StringIO()
  with matplotlib.rc_context(SETTINGS):
    figure.set_dpi(160)
    background = figure.get_facecolor()
    figure.set_facecolor('none')
    FigureCanvasSVG(figure).print_svg(file, metadata={'Date': None})
    figure.set_facecolor(background)
  return _with_dark(_short(file.getvalue())).encode()


def _short(text: str) -> str:
  """Return SVG without metadata and comments, and with paths in hundredths of a point."""
  text = re.sub(r'<metadata>.*?</metadata>|<!--.*?-->', '', text, flags=re.DOTALL)

  def rounded(found):
    return re.sub(r'(\.\d\d)\d+', r'\1', found[0]).replace('\n', ' ')

  text = re.sub(r' d="[^"]*"', rounded, text)
  return re.sub(r'>\s+<', '><', text)


def _with_dark(text: str) -> str:
  """Return SVG with a style sheet that changes its colours where a dark page is preferred."""
  rules = ''.join(
    f'[style*="{kind}: {light.lower()}"]{{{kind}:{dark}!important}}'
    for light, dark in DARK.items()
    for kind in ('fill', 'stroke')
  )
  sheet = f'<style>@media (prefers-color-scheme: dark){{{rules}}}</style>'
  return re.sub(r'(<svg[^>]*>)', lambda found: found[1] + sheet, text, count=1)


def pixels(content: bytes) -> np.ndarray:
  """Return the pixels of a PNG, uint8 [H, W, 3]."""
  from PIL import Image

  return np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))
