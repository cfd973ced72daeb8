"""The look of pictures: colours for colour-blind readers, sizes for page and phone."""

import io
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ensdistill.evaluation.rows import AVERAGED, ENSEMBLE, MEMBER, STUDENT, title

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN = '#000000', '#E69F00', '#56B4E9', '#009E73'
YELLOW, BLUE, VERMILLION, PURPLE = '#F0E442', '#0072B2', '#D55E00', '#CC79A7'
GREY, PALE = '#666666', '#D9D9D9'
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)

DPI = 110  # of bitmaps; figures are laid out at the same value, so texts are measured once
SETTINGS: dict[Any, Any] = {
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


def panels(rows: int, columns: int, *, width: float = 2.5, height: float = 2.4, **settings):
  """Return a figure and its axes [rows, columns], each of about this size in inches."""
  figure = Figure(figsize=(width * columns, height * rows), dpi=DPI, layout='constrained')
  return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def log_axis(axis):
  """Set the ticks of a logarithmic axis to decades; minor ticks would cost most of the drawing."""
  axis.set_major_locator(ticker.LogLocator(numticks=6))
  axis.set_minor_locator(ticker.NullLocator())
  axis.set_major_formatter('{x:g}')


def legend_below(figure, ax, columns: int = 2, **settings):
  """Draw the legend of `ax` below the whole figure."""
  handles, labels = ax.get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside lower center', ncols=columns, **settings)


def settle(figure):
  """Lay a figure out once; otherwise each drawing would repeat the layout, most of its cost."""
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
  """Return the picture as SVG; parts with thousands of points are bitmaps in it."""
  file = io.StringIO()
  with matplotlib.rc_context(SETTINGS):
    figure.set_dpi(160)
    FigureCanvasSVG(figure).print_svg(file, metadata={'Date': None})
  return file.getvalue().encode()


def pixels(content: bytes) -> np.ndarray:
  """Return the pixels of a PNG, uint8 [H, W, 3]."""
  from PIL import Image

  return np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))
