"""What quality costs, and how it holds under shift."""

import numpy as np
from matplotlib import ticker

from ensdistill.report import columns, tables
from ensdistill.report.figures import style

_QUALITY = {
  'categorical': (('acc', 'accuracy, %', 100), ('nll', 'NLL', 1)),
  'gaussian': (('rmse', 'RMSE', 1), ('nll', 'NLL', 1)),
}
_COST = (('params', 'parameters'), ('ms_per_example', 'ms per example (batch of 128)'))


def cost(context):
  """Quality against cost, every model a point: a student is worth its training where it stands near
  the ensemble's height at the member's cost. Bars are standard errors.
  """
  rows = context.rows.values()
  costs = [c for c in _COST if sum(row['metrics'].get(c[0]) is not None for row in rows) > 1]
  if not costs:
    return None
  qualities = _QUALITY[context.dataset.family]
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
  shown = [row['name'] for row in tables.some_ensembles(list(rows))]
  curve = []
  for row in rows:
    name, x, y = row['name'], row['metrics'].get(key), row['metrics'].get(metric)
    if x is None or y is None:
      continue
    error = row['se'].get(metric) or 0
    main = not name.startswith('ensemble-') or name == _largest(shown)
    ax.errorbar(
      x,
      scale * y,
      yerr=scale * error if error else None,
      color=style.model_colour(name),
      marker=style.model_marker(name),
      markersize=6 if main else 3,
      elinewidth=1,
      zorder=3,
    )
    if not name.startswith('student'):
      curve.append((x, scale * y))
    if name in shown:
      text = style.model_title(name) if main else name.partition('-')[2]
      ax.annotate(text, (x, scale * y), annotation_clip=False, size=8 if main else 7)
  ax.plot(*zip(*sorted(curve)), color=style.PALE, linewidth=1, zorder=0)
  ax.set_xscale('log')
  ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=8))
  ax.xaxis.set_major_formatter(lambda value, _: columns.short(value))
  ax.xaxis.set_minor_locator(ticker.NullLocator())
  ax.margins(x=0.25, y=0.22)
  ax.grid(color='#eeeeee', linewidth=0.6)
  ax.set_axisbelow(True)


def _largest(names):
  return [name for name in names if name.startswith('ensemble-')][-1]


def _place_labels(figure, ax):
  """Puts each label beside its point where it covers neither a point nor another label."""
  scale = figure.dpi / 72
  frame = ax.get_window_extent()
  points = [p for bar in ax.containers for p in ax.transData.transform(bar.lines[0].get_xydata())]
  taken = []
  for text in ax.texts:
    point = ax.transData.transform(text.xy)
    box = text.get_window_extent()
    width, height = box.width / scale, box.height / scale
    gap, best = 6, None
    for dx, dy in (
      *((gap, -height / 2), (-gap - width, -height / 2), (-width / 2, gap)),
      *((-width / 2, -gap - height), (gap, gap), (gap, -gap - height)),
      *((-gap - width, gap), (-gap - width, -gap - height)),
    ):
      x, y = point[0] + scale * dx, point[1] + scale * dy
      area = x, y, x + box.width, y + box.height
      bad = sum(_overlap(area, other) for other in taken)
      bad += sum(1e3 for p in points if _overlap(area, (*(p - 6), *(p + 6))))
      bad += 10 * max(0, frame.x0 - area[0]) + 10 * max(0, area[2] - frame.x1)
      bad += 10 * max(0, frame.y0 - area[1]) + 10 * max(0, area[3] - frame.y1)
      if best is None or bad < best[0] - 1e-9:
        best = bad, (dx, dy), area
    _, offset, area = best
    taken.append(area)
    text.set(position=offset, anncoords='offset points')


def _overlap(a, b):
  return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def shift(context):
  """Accuracy and calibration error against the severity of the shift: the mean over all kinds of
  corruption, and the band that holds the middle half of them.
  """
  found = {name: shifts(context.rows[name]['metrics']) for name in context.main}
  if not any(found.values()):
    return None
  figure, axes = style.panels(1, 2, width=3.5, height=2.8)
  for ax, (metric, title) in zip(axes[0], (('acc', 'accuracy, %'), ('ece', 'ECE, %'))):
    for name, kinds in found.items():
      clean = context.metric(name, metric)
      severities = sorted({s for kind in kinds.values() for s in kind})
      columns_ = [
        [100 * kind[s][metric] for kind in kinds.values() if metric in kind.get(s, {})]
        for s in severities
      ]
      pairs = [(s, c) for s, c in zip(severities, columns_) if c]
      if not pairs:
        continue
      x = [0] + [s for s, _ in pairs]
      mean = [100 * clean] + [np.mean(c) for _, c in pairs]
      low, high = ([100 * clean] + [np.quantile(c, q) for _, c in pairs] for q in (0.25, 0.75))
      settings = dict(color=style.model_colour(name))
      ax.fill_between(x, low, high, alpha=0.12, linewidth=0, **settings)
      marker = style.model_marker(name)
      ax.plot(x, mean, marker=marker, markersize=4, label=style.model_title(name), **settings)
    ax.set(xlabel='severity (0: the test set itself)', ylabel=title)
  axes[0, 0].legend(loc='lower left')
  return figure


def shifts(metrics: dict) -> dict[str, dict[int, dict[str, float]]]:
  """{kind: {severity: {metric: value}}} of a row's 'shift/<kind>/<severity>/<metric>'."""
  found = {}
  for key, value in metrics.items():
    parts = key.split('/')
    if len(parts) == 4 and parts[0] == 'shift' and parts[1] != 'mean' and value is not None:
      found.setdefault(parts[1], {}).setdefault(int(parts[2]), {})[parts[3]] = value
  return found
