"""Pictures of several runs on the same data: quality against cost, and ranks."""

from collections.abc import Iterable

import numpy as np

from ensdistill.evaluation.rows import AVERAGED, ENSEMBLE, MEMBER
from ensdistill.report import columns, noise, tables
from ensdistill.report.columns import Column
from ensdistill.report.figures import points, style
from ensdistill.report.figures.points import Axis
from ensdistill.report.figures.quality import same_times
from ensdistill.report.tables import Row

_COST = (
  Axis(columns.PARAMETERS.key, 'parameters'),
  Axis(columns.RELATIVE_TIME, 'time relative to one member'),
)
_TOPICS = {
  'quality': (columns.QUALITY, style.BLUE),
  'calibration and shift': (columns.CALIBRATION, style.VERMILLION),
  'errors and agreement': (columns.UNCERTAINTY, style.GREEN),
}


def cost(rows: list[Row]):
  """Quality against cost of all models. Bars are standard errors over repeats and test examples,
  and the spread of timings; networks of one architecture have one time, and points of about equal
  cost are drawn side by side. The dashed line is the Pareto front: for each model behind it, a
  better one costs no more.
  """
  found = same_times([row.row for row in rows], columns.RELATIVE_TIME)
  rows = [row._replace(row=own) for row, own in zip(rows, found)]
  wanted = [c for c in _COST if c.key != columns.RELATIVE_TIME or tables.comparable(rows)]
  costs, qualities = (
    [axis for axis in axes if sum(r['metrics'].get(axis.key) is not None for r in found) > 2]
    for axes in (wanted, points.QUALITY)
  )
  if not costs or not qualities:
    return None

  def draw_in(ax, quality: Axis, of: Axis):
    shown = _points(rows, of, quality)
    points.draw(ax, shown)
    points.draw_front(ax, shown, columns.higher_is_better(quality.key))

  return points.planes(qualities, costs, draw_in, width=4.6, height=3.4)


def _points(rows: Iterable[Row], cost: Axis, quality: Axis) -> list[points.Point]:
  found = []
  for row in rows:
    values, role = row.row['metrics'], row.row['role']
    if None in (values.get(cost.key), values.get(quality.key)):
      continue
    look = style.look(role, row.row['size'] or 1)
    small = bool(row.row.get('subsets'))
    label = str(row.row['size']) if small else row.label
    if role in (MEMBER, ENSEMBLE) and not small:
      label = look.title + (f' [{row.origin}]' if row.origin else '')
    label = _wrapped(label)
    at = cost.scale * values[cost.key], quality.scale * values[quality.key]
    spread = None if small else cost.scale * (values.get(f'{cost.key}/spread') or 0.0)
    error = None if small else quality.scale * (noise.of_row(row.row, quality.key) or 0.0)
    found.append(points.Point(*at, label, look, spread, error, small))
  return found


def _wrapped(label: str) -> str:
  """Return a label, for a phone in two lines."""
  return label.replace(' (', '\n(') if style.is_narrow() else label


def ranks(rows: list[Row]):
  """Ranks of the students, 1 is best: a dot for each metric, a large symbol for the mean over all,
  which is also given on the right. Two students that differ by less than two standard errors in a
  metric share their rank.
  """
  students = [row for row in rows if row.student]
  found = {topic: _ranks(students, shown) for topic, shown in _topics(students).items()}
  every = [ranked for topic in found.values() for ranked in topic]
  mean = np.mean(every, 0) if every else np.zeros(len(students))
  if len(students) < 3 or np.ptp(mean) == 0:  # nothing is told apart
    return None
  order = np.argsort(mean, kind='stable')
  height = 0.9 + 0.34 * len(students)
  figure, ((ax,),) = style.panels(1, 1, width=6.2, height=height)
  colours = [colour for _, colour in _TOPICS.values()] + [style.PURPLE]
  count = len(every)
  offsets, number = np.linspace(-0.28, 0.28, max(count, 2)), 0
  for (topic, own), colour in zip(found.items(), colours):
    for i, ranked in enumerate(own):
      y = np.arange(len(order)) + offsets[number]
      label = topic if i == 0 else None
      settings = dict(markersize=4.5, markeredgewidth=0, alpha=0.75, label=label)
      ax.plot(np.array(ranked)[order], y, 'o', color=colour, **settings)
      number += 1
  for i, at in enumerate(mean[order]):
    looks = style.look(students[order[i]].row['role'], 1)
    marker = '^' if students[order[i]].row['role'] == AVERAGED else 'D'
    ax.plot(at, i, marker, color=looks.colour, markersize=8, markeredgecolor=style.INK, zorder=4)
    beside = dict(xytext=(6, 0), textcoords='offset points', va='center', size=8.5)
    ax.annotate(f'{at:.1f}', (1, i), xycoords=('axes fraction', 'data'), **beside)
  ax.set_yticks(range(len(order)), [_wrapped(students[i].label) for i in order])
  ax.set(xlim=(0.7, len(students) + 0.3), ylim=(len(order) - 0.5, -0.6))
  ax.set(xlabel='rank (1 is best)', xticks=range(1, len(students) + 1))
  ax.grid(axis='x', color=style.GRID, linewidth=0.6)
  ax.set_axisbelow(True)
  style.legend_below(figure, ax, columns=4)
  return figure


def _topics(students: list[Row]) -> dict[str, list[Column]]:
  """Return the columns that rank students, by topic: those that all of them have."""
  rows = [row.row for row in students]
  wanted = {topic: list(shown) for topic, (shown, _) in _TOPICS.items()}
  wanted['out of distribution'] = columns.ood_columns(rows)
  found = {
    topic: [
      c
      for c in shown
      if c.better
      and not columns.is_rare(c)
      and all(r['metrics'].get(c.key) is not None for r in rows)
    ]
    for topic, shown in wanted.items()
  }
  return {topic: shown for topic, shown in found.items() if shown}


def _ranks(students: list[Row], shown: list[Column]) -> list[list[float]]:
  """Return the rank of every student by each column; what is not told apart shares its rank."""
  return [[_rank(row, students, column) for row in students] for column in shown]


def _rank(row: Row, students: list[Row], column: Column) -> float:
  rank = 1.0
  for other in students:
    if other is row:
      continue
    if not tables.differ(row, other, column):
      rank += 0.5
    else:
      ours, theirs = (r.row['metrics'][column.key] for r in (row, other))
      rank += (ours < theirs) == (column.better == 'higher')
  return rank
