"""Points of models in planes of cost and quality, with labels that do not cover each other."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.lines import Line2D

from ensdistill.report import columns
from ensdistill.report.figures import style


class Axis(NamedTuple):
  """A metric along an axis."""

  key: str
  title: str
  scale: float = 1


QUALITY = (Axis('acc', 'accuracy, %', 100), Axis('rmse', 'RMSE'), Axis('nll', 'NLL, nats'))


class Point(NamedTuple):
  """A model in a plane; label '' for none."""

  x: float
  y: float
  label: str
  look: style.Look
  x_error: float | None = None
  y_error: float | None = None
  small: bool = False


def planes(
  qualities: Sequence[Axis],
  costs: Sequence[Axis],
  draw_in: Callable[..., None],
  *,
  width: float,
  height: float,
):
  """Return a figure with a plane for each quality (row) and cost (column).

  draw_in: (axes, quality, cost) draws the points of one plane.
  """
  figure, axes = style.panels(
    len(qualities), len(costs), width=width, height=height, sharex='col', sharey='row'
  )
  for line, quality in zip(axes, qualities):
    for ax, cost in zip(line, costs):
      draw_in(ax, quality, cost)
      settle(ax)
    better = 'higher' if columns.higher_is_better(quality.key) else 'lower'
    line[0].set_ylabel(f'{quality.title} ({better} is better)')
  for ax, cost in zip(axes[-1], costs):
    ax.set_xlabel(cost.title)
  style.settle(figure)
  for ax in axes.flat:
    place(figure, ax)
  return figure


APART = 0.02  # least distance between points, as a share of their range


def apart(points: Sequence[Point]) -> list[Point]:
  """Return points moved along the cost, so that none lies in the error bars of another.

  Small points have no error bars and stay.
  """
  if not points:
    return []
  at = np.log([point.x for point in points])
  least = APART * (np.ptp(at) or 1.0)
  moved = at.copy()
  clusters: list[list[int]] = []
  for i in np.argsort(at, kind='stable'):
    if points[i].small:
      continue
    if clusters and at[i] < moved[clusters[-1][-1]] + least:
      moved[i] = moved[clusters[-1][-1]] + least
      clusters[-1].append(i)
    else:
      clusters.append([i])
  for own in clusters:
    moved[own] -= (moved[own] - at[own]).mean()
  return [point._replace(x=float(x)) for point, x in zip(points, np.exp(moved))]


def draw(ax, points: Sequence[Point]):
  """Draw points with their error bars; labels are placed by `place`."""
  for point in apart(points):
    error = point.x_error or 0.0
    x_error = [[min(error, 0.5 * point.x)], [error]]  # a logarithmic axis has no zero
    ax.errorbar(
      point.x,
      point.y,
      xerr=x_error if error else None,
      yerr=point.y_error or None,
      color=point.look.colour,
      marker=point.look.marker,
      markersize=3 if point.small else 6,
      elinewidth=1,
      zorder=3,
    )
    if point.label:
      size = 7 if point.small else 8
      ax.annotate(point.label, (point.x, point.y), annotation_clip=False, size=size)


def settle(ax):
  """Set scale, grid and margins of a plane of costs; limits are those of the points."""
  ax.set_xscale('log')
  x = [at for bar in ax.containers for at in np.atleast_1d(bar.lines[0].get_xdata())]
  low, high = (min(x), max(x)) if x else (1.0, 1.0)
  room = max((high / low) ** 0.25, 1.3)
  ax.set_xlim(low / room, high * room)
  steps = (1, 2, 5) if high / low < 50 else (1,)
  ax.xaxis.set_major_locator(ticker.LogLocator(subs=steps, numticks=8))
  ax.xaxis.set_major_formatter(_short)
  ax.xaxis.set_minor_locator(ticker.NullLocator())
  ax.margins(y=0.22)
  ax.grid(color=style.GRID, linewidth=0.6)
  ax.set_axisbelow(True)


def _short(value, _):
  return columns.short(value)


def front(points: Iterable[Point], higher: bool) -> list[Point]:
  """Return the Pareto front by cost: points that no cheaper or equally cheap point beats."""
  found: list[Point] = []
  for point in sorted(points, key=lambda p: (p.x, -p.y if higher else p.y)):
    if not found or (point.y > found[-1].y if higher else point.y < found[-1].y):
      found.append(point)
  return found


def draw_front(ax, points: Iterable[Point], higher: bool):
  """Draw the Pareto front as steps, which bound what a model on it is not worse than."""
  found = front(points, higher)
  if found:
    worst = -1e9 if higher else 1e9
    x = [found[0].x, *(p.x for p in found), 1e3 * found[-1].x]
    y = [worst, *(p.y for p in found), found[-1].y]
    line = Line2D(x, y, color=style.GREY, linewidth=1, linestyle='--', drawstyle='steps-post')
    line.set_zorder(1)
    ax.add_artist(line)  # unlike a plot, it does not change the limits


GAP = 6  # between a label and its point


def place(figure, ax):
  """Place each label beside its point where it covers neither a point nor another label."""
  scale, frame = figure.dpi / 72, ax.get_window_extent()
  points = [p for bar in ax.containers for p in ax.transData.transform(bar.lines[0].get_xydata())]
  bars = [p for bar in ax.containers for lines in bar.lines[2] for p in _along(ax, lines)]
  taken: list[tuple] = []
  for text in ax.texts:
    point = ax.transData.transform(text.xy)
    box = text.get_window_extent()
    width, height = box.width / scale, box.height / scale
    least, best = np.inf, ((0.0, 0.0), (0.0, 0.0, 0.0, 0.0))
    for dx, dy, cost in _places(width, height):
      x, y = point[0] + scale * dx, point[1] + scale * dy
      area = x, y, x + box.width, y + box.height
      bad = cost + _badness(area, taken, points, frame)
      bad += sum(30 for p in bars if _overlap(area, (*(p - 2), *(p + 2))))
      if bad < least - 1e-9:
        least, best = bad, ((dx, dy), area)
    offset, area = best
    taken.append(area)
    text.set(position=offset, anncoords='offset points')


def _places(width: float, height: float):
  """Yield offsets of a label from its point, in points, and a cost that grows with the distance."""
  level, middle = -height / 2, -width / 2
  yield GAP, level, 0
  yield -GAP - width, level, 0
  for step in range(4):
    above = (1 + 1.2 * step) * GAP
    for dy in (above, -above - height):
      for dx in (middle, GAP, -GAP - width):
        yield dx, dy, 20 * step


def _along(ax, lines) -> list[np.ndarray]:
  """Return points along error bars, on the screen."""
  found = []
  for start, end in (ax.transData.transform(segment) for segment in lines.get_segments()):
    found += [start + share * (end - start) for share in np.linspace(0, 1, 9)]
  return found


def _badness(area, taken, points, frame) -> float:
  """Return how much a label in this area covers others and points, or leaves the frame."""
  wider = area[0] - 2, area[1] - 2, area[2] + 2, area[3] + 2
  bad = 3 * sum(_overlap(wider, other) for other in taken)
  bad += sum(1e3 for p in points if _overlap(area, (*(p - 6), *(p + 6))))
  bad += 200 * (max(0, frame.x0 - area[0]) + max(0, area[2] - frame.x1))
  return bad + 200 * (max(0, frame.y0 - area[1]) + max(0, area[3] - frame.y1))


def _overlap(a, b):
  """Return the area that two boxes (x0, y0, x1, y1) share."""
  return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
