"""How pictures look: colours that colour-blind readers tell apart, sizes for page and phone."""

import io

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN = '#000000', '#E69F00', '#56B4E9', '#009E73'
YELLOW, BLUE, VERMILLION, PURPLE = '#F0E442', '#0072B2', '#D55E00', '#CC79A7'
GREY, PALE = '#666666', '#D9D9D9'
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)

DPI = 110  # of bitmaps; laid out at the same, so that texts are measured once
SETTINGS = {
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
  'svg.hashsalt': 'ensdistill',  # the same picture is the same file
}


def model_colour(name: str) -> str:
  known = {'member': GREY, 'student': VERMILLION, 'student-averaged': PURPLE}
  return known.get(name, BLUE)


def model_marker(name: str) -> str:
  return {'member': 'o', 'student': 'D', 'student-averaged': '^'}.get(name, 's')


def model_title(name: str) -> str:
  if name == 'member':
    return 'one member'
  kind, _, rest = name.partition('-')
  return f'ensemble of {rest}' if kind == 'ensemble' else name.replace('-', ', ')


def input_names(dataset) -> tuple[str, ...]:
  """What the axes of a table's inputs are called."""
  count = dataset.train.x.shape[-1]
  return tuple(dataset.columns or (f'input {i + 1}' for i in range(count)))


def panels(rows: int, columns: int, *, width: float = 2.5, height: float = 2.4, **settings):
  """A figure and its axes [rows, columns], each of about this size in inches."""
  figure = Figure(figsize=(width * columns, height * rows), dpi=DPI, layout='constrained')
  return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def log_axis(axis, form=None):
  """A logarithmic axis of decades without the small ticks, most of what drawing it would cost."""
  axis.set_major_locator(ticker.LogLocator(numticks=6))
  axis.set_minor_locator(ticker.NullLocator())
  axis.set_major_formatter(form or (lambda value, _: f'{value:g}'))


def legend_below(figure, ax, columns: int = 2, **settings):
  """The legend of one of its axes, below the whole figure."""
  handles, labels = ax.get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside lower center', ncols=columns, **settings)


def settle(figure):
  """Lays a figure out for good: every later draw would do it again, at most of its cost."""
  if figure.get_layout_engine() is not None:
    fixed = any(axis.get_aspect() != 'auto' for axis in figure.axes)
    for _ in range(2 if fixed else 1):  # those beside a colour bar settle at the second
      figure.get_layout_engine().execute(figure)
    figure.set_layout_engine('none')


def png(figure, dpi: int = DPI, limit: int = 150_000) -> bytes:
  """A PNG of at most `limit` bytes: its resolution falls until it fits."""
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
  """The picture as vectors; what has thousands of points is a bitmap within it."""
  file = io.StringIO()
  with matplotlib.rc_context(SETTINGS):
    figure.set_dpi(160)
    FigureCanvasSVG(figure).print_svg(file, metadata={'Date': None})
  return file.getvalue().encode()


def pixels(content: bytes) -> np.ndarray:
  """A PNG's uint8 [H, W, 3]."""
  from PIL import Image

  return np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))
