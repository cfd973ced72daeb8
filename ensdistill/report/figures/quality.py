"""Quality against cost, and quality under shift."""

import numpy as np
from matplotlib import ticker

from ensdistill.evaluation.rows import ENSEMBLE, STUDENTS, largest_ensemble
from ensdistill.report import columns, tables
from ensdistill.report.figures import style

_QUALITY = (('acc', 'accuracy, %', 100), ('rmse', 'RMSE', 1), ('nll', 'NLL', 1))
_COST = (('params', 'parameters'), ('ms_per_example', 'ms per example (batch of 128)'))


def cost(context):
  """Quality against cost, one point per model. A good student has nearly the ensemble's quality at
  nearly the cost of one member. Bars are standard errors.
  """
  rows = list(context.rows.values())
  costs = [c for c in _COST if sum(row['metrics'].get(c[0]) is not None for row in rows) > 1]
  if not costs:
    return None
  qualities = [q for q in _QUALITY if any(q[0] in row['metrics'] for row in rows)]
  figure, axes = style.panels(
    len(qualities), len(costs), width=3.5, height=2.5, sharex='col', sharey='row'
  )
  for line, (metric, title, scale) in zip(axes, qualities):
    for ax, (key, _) in zip(line, costs):
      _points(ax, rows, key, metric, scale)
    better = 'higher' if columns.higher_is_better(metric) else 'lower'
    line[0].set_ylabel(f'{title} ({better} is better)')
  for ax, (_, label) in zip(axes[-1], costs):
    ax.set_xlabel(label)
  style.settle(figure)
  for ax in axes.flat:
    _place_labels(figure, ax)
  return figure


def _points(ax, rows, key, metric, scale):
  """Draw every model as a point, with its label, and a line through member and ensembles."""
  labelled = {row['name'] for row in tables.some_ensembles(rows)}
  largest = largest_ensemble(rows)
  curve = []
  for row in rows:
    x, y = row['metrics'].get(key), row['metrics'].get(metric)
    if x is None or y is None:
      continue
    error = row['se'].get(metric) or 0
    look = style.look(row['role'], row['size'])
    main = row['role'] != ENSEMBLE or row is largest
    ax.errorbar(
      x,
      scale * y,
      yerr=scale * error if error else None,
      color=look.colour,
      marker=look.marker,
      markersize=6 if main else 3,
      elinewidth=1,
      zorder=3,
    )
    if row['role'] not in STUDENTS:
      curve.append((x, scale * y))
    if row['name'] in labelled:
      text = look.title if main else str(row['size'])
      ax.annotate(text, (x, scale * y), annotation_clip=False, size=8 if main else 7)
  ax.plot(*zip(*sorted(curve)), color=style.PALE, linewidth=1, zorder=0)
  ax.set_xscale('log')
  ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=8))
  ax.xaxis.set_major_formatter(_short)
  ax.xaxis.set_minor_locator(ticker.NullLocator())
  ax.margins(x=0.25, y=0.22)
  ax.grid(color='#eeeeee', linewidth=0.6)
  ax.set_axisbelow(True)


def _short(value, _):
  return columns.short(value)


def _place_labels(figure, ax):
  """Place each label beside its point where it covers neither a point nor another label."""
  scale, gap, frame = figure.dpi / 72, 6, ax.get_window_extent()
  points = [p for bar in ax.containers for p in ax.transData.transform(bar.lines[0].get_xydata())]
  taken: list[tuple] = []
  for text in ax.texts:
    point = ax.transData.transform(text.xy)
    box = text.get_window_extent()
    width, height = box.width / scale, box.height / scale
    least, best = np.inf, ((0.0, 0.0), (0.0, 0.0, 0.0, 0.0))
    for dx, dy in (
      *((gap, -height / 2), (-gap - width, -height / 2), (-width / 2, gap)),
      *((-width / 2, -gap - height), (gap, gap), (gap, -gap - height)),
      *((-gap - width, gap), (-gap - width, -gap - height)),
    ):
      x, y = point[0] + scale * dx, point[1] + scale * dy
      area = x, y, x + box.width, y + box.height
      bad = _badness(area, taken, points, frame)
      if bad < least - 1e-9:
        least, best = bad, ((dx, dy), area)
    offset, area = best
    taken.append(area)
    text.set(position=offset, anncoords='offset points')


def _badness(area, taken, points, frame) -> float:
  """Return how much a label in this area covers others and points, or leaves the frame."""
  bad = sum(_overlap(area, other) for other in taken)
  bad += sum(1e3 for p in points if _overlap(area, (*(p - 6), *(p + 6))))
  bad += 10 * max(0, frame.x0 - area[0]) + 10 * max(0, area[2] - frame.x1)
  return bad + 10 * max(0, frame.y0 - area[1]) + 10 * max(0, area[3] - frame.y1)


def _overlap(a, b):
  """Return the area that two boxes (x0, y0, x1, y1) share."""
  return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


SEVERITY = 3  # for the panel that shows each kind of shift


def shift(context):
  """Accuracy and calibration error against the severity of the shift, as means over all kinds of
  corruption, and the accuracy under each kind at severity 3.
  """
  if not context.has_classes:
    return None
  found = {name: shifts(context.rows[name]['metrics']) for name in context.main}
  if not any(found.values()):
    return None
  figure, (axes,) = style.panels(1, 3, width=2.9, height=2.9)
  for name, kinds in found.items():
    look = context.look(name)
    settings = dict(color=look.colour, marker=look.marker, markersize=4)
    for ax, metric in zip(axes, ('acc', 'ece')):
      x = sorted({s for kind in kinds.values() for s, values in kind.items() if metric in values})
      mean = [np.mean([kind[s][metric] for kind in kinds.values() if s in kind]) for s in x]
      y = 100 * np.array([context.metric(name, metric), *mean])
      ax.plot([0, *x], y, label=look.title, **settings)
    at = {kind: 100 * v[SEVERITY]['acc'] for kind, v in kinds.items() if SEVERITY in v}
    axes[2].plot(list(at.values()), [k.replace('_', ' ') for k in at], linestyle='none', **settings)
  for ax, title in zip(axes, ('accuracy, %', 'ECE, %')):
    ax.set(xlabel='severity (0: the test set)', ylabel=title, xticks=range(6))
  axes[2].set(xlabel=f'accuracy at severity {SEVERITY}, %')
  axes[2].invert_yaxis()
  axes[2].grid(axis='y', color='#eeeeee', linewidth=0.6)
  style.legend_below(figure, axes[0], columns=len(found))
  return figure


def shifts(metrics: dict) -> dict[str, dict[int, dict[str, float]]]:
  """Return {kind: {severity: {metric: value}}} from 'shift/<kind>/<severity>/<metric>'."""
  found: dict[str, dict[int, dict[str, float]]] = {}
  for key, value in metrics.items():
    parts = key.split('/')
    if len(parts) == 4 and parts[0] == 'shift' and parts[1] != 'mean' and value is not None:
      found.setdefault(parts[1], {}).setdefault(int(parts[2]), {})[parts[3]] = value
  return found
