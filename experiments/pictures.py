"""Pictures of the experiments as SVG text, the same on every machine."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ensdistill.evaluation.gaps import LEAST_CLOSED, MOST_CLOSED, percent_closed
from ensdistill.sweep.statistics import Estimate

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 400, 70, 50, 30
SPACE = 15  # between labels
LETTER = 6.5  # width of a letter of a label, on average
FONT = 'font-family="sans-serif" font-size="12" fill="#333"'


class Point(NamedTuple):
  """A model in a picture of two metrics."""

  label: str
  x: Estimate
  y: Estimate


def points(found: Sequence[Point], x_title: str, y_title: str) -> str:
  """Return models as points with error bars of one standard error; labels stand on the right."""
  height = max(HEIGHT, TOP + BOTTOM + SPACE * len(found))
  x_of = _scale([v for p in found for v in _ends(p.x)], LEFT, WIDTH - 190)
  y_of = _scale([v for p in found for v in _ends(p.y)], height - BOTTOM, TOP)
  parts = [*_axes(x_of, y_of, x_title, y_title)]
  places = {point: (x_of.place(point.x.mean), y_of.place(point.y.mean)) for point in found}
  order = sorted(found, key=lambda point: places[point][1])
  for point, label in zip(order, _apart([places[p][1] for p in order], y_of.start)):
    x, y = places[point]
    parts.append(_line(x, y, x_of.end + 20, label, '#ccc'))
    parts.append(_text(x_of.end + 24, label + 4, point.label))
  for point, (x, y) in places.items():
    left, right = [x_of.place(v) for v in _ends(point.x)]
    parts.append(_line(left, y, right, y, '#555'))
    low, high = [y_of.place(v) for v in _ends(point.y)]
    parts.append(_line(x, low, x, high, '#555'))
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1b6ca8"/>')
  longest = max(len(point.label) for point in found)
  return _document(max(WIDTH, round(x_of.end + 40 + LETTER * longest)), height, parts)


def _apart(ys: Sequence[float], lowest: float) -> list[float]:
  """Return sorted places that are moved so that each has SPACE, none below `lowest`."""
  found: list[float] = []
  for y in ys:
    found.append(max(y, found[-1] + SPACE) if found else y)
  for i in reversed(range(len(found))):
    found[i] = min(found[i], lowest if i == len(found) - 1 else found[i + 1] - SPACE)
  return found


def lines(found: Mapping[str, Sequence[tuple[float, float]]], x_title: str, y_title: str) -> str:
  """Return curves {name: (x, y)}; x is logarithmic."""
  colours = ('#1b6ca8', '#c2571a', '#3a8f3a', '#8a4fa8')
  xs, ys = zip(*(p for curve in found.values() for p in curve))
  x_of = _scale([math.log10(x) for x in xs], LEFT, WIDTH - 190)
  y_of = _scale(ys, HEIGHT - BOTTOM, TOP)
  parts = [*_axes(x_of, y_of, x_title, y_title, power=True)]
  for number, (name, curve) in enumerate(found.items()):
    colour = colours[number % len(colours)]
    places = [(x_of.place(math.log10(x)), y_of.place(y)) for x, y in curve]
    path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    parts.append(_text(places[-1][0] + 6, places[-1][1] + 4, name))
  return _document(WIDTH, HEIGHT, parts)


def heat(cells: Mapping[str, Mapping[str, Estimate]], columns: Sequence[str]) -> str:
  """Return closed gaps {row: {column: share}} as coloured cells with shares and errors."""
  values = [_shown(found.mean) for row in cells.values() for found in row.values()]
  low, high = min(values), max(values)
  width, height, left = 92, 34, 210
  parts = [_text(left + i * width + 6, 20, name) for i, name in enumerate(columns)]
  for j, (title, row) in enumerate(cells.items()):
    y = 30 + j * height
    parts.append(_text(4, y + 21, title))
    for i, name in enumerate(columns):
      found = row.get(name)
      share = 0.0 if found is None or high == low else (_shown(found.mean) - low) / (high - low)
      fill = '#eee' if found is None else _colour(share)
      parts.append(
        f'<rect x="{left + i * width}" y="{y}" width="{width - 2}" height="{height - 2}" '
        f'fill="{fill}"/>'
      )
      if found is not None:
        parts.append(_text(left + i * width + 8, y + 21, percent_closed(found.mean, found.error)))
  return _document(left + len(columns) * width, 36 + len(cells) * height, parts)


def _shown(share: float) -> float:
  """Return a share of a gap within the limits that have digits."""
  return min(max(share, LEAST_CLOSED), MOST_CLOSED)


class _Scale(NamedTuple):
  low: float
  high: float
  start: float
  end: float

  def place(self, value: float) -> float:
    """Return where a value lies on the picture."""
    share = (value - self.low) / (self.high - self.low)
    return self.start + share * (self.end - self.start)


def _scale(values: Sequence[float], start: float, end: float) -> _Scale:
  low, high = min(values), max(values)
  space = 0.08 * (high - low) or 0.5
  return _Scale(low - space, high + space, start, end)


def _ends(found: Estimate) -> tuple[float, float]:
  error = found.error or 0.0
  return found.mean - error, found.mean + error


def _axes(x_of: _Scale, y_of: _Scale, x_title: str, y_title: str, power: bool = False):
  """Yield axes with round numbers, and lines at those of the upright one."""
  for y in _round_numbers(y_of.low, y_of.high):
    yield _line(x_of.start, y_of.place(y), x_of.end, y_of.place(y), '#ddd')
    yield _text(x_of.start - 8, y_of.place(y) + 4, f'{y:.6g}', 'end')
  for x in _powers(x_of.low, x_of.high) if power else _round_numbers(x_of.low, x_of.high):
    place = x_of.place(math.log10(x) if power else x)
    yield _line(place, y_of.start, place, y_of.start + 4, '#333')
    yield _text(place, y_of.start + 18, f'{x:.6g}', 'middle')
  yield _line(x_of.start, y_of.start, x_of.end, y_of.start, '#333')
  yield _text((x_of.start + x_of.end) / 2, y_of.start + 38, x_title, 'middle')
  yield _text(6, 16, y_title)


def _round_numbers(low: float, high: float) -> list[float]:
  """Return the multiples of 1, 2 or 5 times a power of ten in a range, four or more."""
  rough = (high - low) / 4
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(power * n for n in (5, 2, 1) if power * n <= rough)
  first, last = math.ceil(low / step), math.floor(high / step)
  return [number * step for number in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
  """Return 1, 2 and 5 times powers of ten between two logarithms."""
  every = [n * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for n in (1, 2, 5)]
  return [value for value in every if low <= math.log10(value) <= high]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
  return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = 'start') -> str:
  place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
  return f'<text {place} {FONT}>{html.escape(text)}</text>'


def _colour(share: float) -> str:
  """Return a colour from white to blue."""
  return '#' + ''.join(
    f'{round(light + share * (dark - light)):02x}'
    for light, dark in zip((247, 251, 255), (107, 174, 214))
  )


def _document(width: float, height: float, parts: Sequence[str]) -> str:
  head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
  return '\n'.join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, '</svg>', ''])
