"""Quality against cost, and quality under shift."""

from typing import NamedTuple

import numpy as np

from ensdistill.evaluation.rows import ENSEMBLE, MEMBER, STUDENTS, largest_ensemble
from ensdistill.report import columns, noise, tables
from ensdistill.report.figures import points, style
from ensdistill.report.figures.points import Axis

_PARAMETERS = Axis(columns.PARAMETERS.key, 'parameters')
_MILLISECONDS = Axis(columns.TIME.key, 'ms per example (batch of 128)')
_MICROSECONDS = Axis(columns.TIME.key, 'µs per example (batch of 128)', 1000)


def cost(context):
  """Quality against cost, one point per model. A good student has nearly the ensemble's quality at
  nearly the cost of one member. Bars are standard errors over repeats and test examples, and the
  spread of timings; networks of one architecture have one time, and points of about equal cost are
  drawn side by side. Ensembles of some of the members are averages over subsets; the band is the
  spread over these.
  """
  rows = same_times(list(context.rows.values()))
  costs = _costs(rows)
  if not costs:
    return None
  qualities = [q for q in points.QUALITY if any(q.key in row['metrics'] for row in rows)]

  def draw_in(ax, quality: Axis, of: Axis):
    points.draw(ax, _points(rows, of, quality))
    _teachers(ax, rows, of, quality)

  return points.planes(qualities, costs, draw_in, width=3.5, height=2.5)


def _costs(rows: list[dict]) -> list[Axis]:
  """Return the costs that at least two rows have, times in a unit without leading zeros."""
  found = []
  for axis in (_PARAMETERS, _MILLISECONDS):
    values = [row['metrics'].get(axis.key) for row in rows]
    values = [value for value in values if value is not None]
    if len(values) > 1:
      short = axis is _MILLISECONDS and max(values) < 0.1
      found.append(_MICROSECONDS if short else axis)
  return found


def same_times(rows: list[dict], key: str = columns.TIME.key) -> list[dict]:
  """Return the rows with one time for all networks of equal parameters and operations.

  They are one architecture, so what their times differ by is noise.
  """
  groups: dict[tuple, list[dict]] = {}
  for row in rows:
    values = row['metrics']
    if values.get(key) is not None and row['role'] != ENSEMBLE:
      groups.setdefault((values.get('params'), values.get('flops')), []).append(values)
  found = []
  for row in rows:
    values = row['metrics']
    group = groups.get((values.get('params'), values.get('flops')), [])
    if len(group) > 1 and any(values is other for other in group):
      times = [other[key] for other in group]
      spreads = [other.get(f'{key}/spread') or 0.0 for other in group]
      spread = max([*spreads, (max(times) - min(times)) / 2])
      row = row | {'metrics': values | {key: float(np.mean(times)), f'{key}/spread': spread}}
    found.append(row)
  return found


def _points(rows: list[dict], cost: Axis, quality: Axis) -> list[points.Point]:
  """Return a point for each model, the main ones with error bars."""
  labelled = {row['name'] for row in tables.some_ensembles(rows)}
  largest, found = largest_ensemble(rows), []
  seen: list[tuple] = []
  for row in rows:
    x, y = row['metrics'].get(cost.key), row['metrics'].get(quality.key)
    if x is None or y is None:
      continue
    look = style.look(row['role'], row['size'])
    main = row['role'] != ENSEMBLE or row is largest
    label = look.title if main else str(row['size'])
    label = label if row['name'] in labelled else ''
    same = sum(other == (x, y) for other in seen)
    seen.append((x, y))
    x_error = cost.scale * (row['metrics'].get(f'{cost.key}/spread') or 0.0) if main else None
    y_error = quality.scale * (noise.of_row(row, quality.key) or 0.0) if main else None
    at = cost.scale * x, quality.scale * y
    found.append(points.Point(*at, '' if same else label, look, x_error, y_error, not main))
  return found


def _teachers(ax, rows: list[dict], cost: Axis, quality: Axis):
  """Draw a line through member and ensembles, with the spread over subsets as a band."""
  rows = [row for row in rows if row['role'] not in STUDENTS]
  keys = cost.key, quality.key
  rows = [r for r in rows if all(r['metrics'].get(key) is not None for key in keys)]
  rows.sort(key=lambda row: row['metrics'][cost.key])
  x = [cost.scale * row['metrics'][cost.key] for row in rows]
  y = np.array([quality.scale * row['metrics'][quality.key] for row in rows])
  ax.plot(x, y, color=style.PALE, linewidth=1, zorder=0)
  spread = [quality.scale * _spread(row, quality.key) for row in rows]
  if any(row.get('spread') for row in rows):
    area = dict(color=style.BLUE, alpha=0.12, linewidth=0, zorder=0)
    ax.fill_between(x, y - np.array(spread), y + np.array(spread), **area)


def _spread(row: dict, metric: str) -> float:
  """Return the standard deviation of a metric over subsets of members, or over single ones."""
  if row['role'] == MEMBER:
    return (row['se'].get(metric) or 0.0) * row['seeds'] ** 0.5
  return (row.get('spread') or {}).get(metric) or 0.0


SEVERITY = 3  # for the panel that shows each kind of shift


class _Curve(NamedTuple):
  """A metric by severity; severity 0 is the test set."""

  x: list[int]
  y: np.ndarray
  error: np.ndarray


def shift(context):
  """Accuracy and calibration error against the severity of the shift, as means over all kinds of
  corruption, and the accuracy under each kind at severity 3. Bars are standard errors over repeats
  and test examples.
  """
  if not context.has_classes:
    return None
  found = {name: shifts(context.rows[name]['metrics']) for name in context.main}
  if not any(found.values()):
    return None
  curved = [m for m in ('acc', 'ece') if len(_curve(context.rows[context.main[-1]], m).x) > 1]
  kinds = list(dict.fromkeys(k for own in found.values() for k, v in own.items() if SEVERITY in v))
  figure, (axes,) = style.panels(1, len(curved) + bool(kinds), width=2.9, height=2.9)
  count = len(found)
  for number, name in enumerate(found):
    look, row = context.look(name), context.rows[name]
    settings = dict(color=look.colour, marker=look.marker, markersize=4, elinewidth=0.8)
    aside = (number - (count - 1) / 2) * 0.09  # so that bars do not cover each other
    for ax, metric in zip(axes, curved):
      x, y, error = _curve(row, metric)
      ax.errorbar(np.array(x) + aside, y, yerr=error, label=look.title, **settings)
    if kinds:
      at = {f'shift/{kind}/{SEVERITY}/acc': i for i, kind in enumerate(kinds)}
      at = {key: i for key, i in at.items() if row['metrics'].get(key) is not None}
      x = [100 * row['metrics'][key] for key in at]
      errors = [100 * (noise.of_row(row, key) or 0) for key in at]
      place = np.array([*at.values()]) + 2 * aside
      axes[-1].errorbar(x, place, xerr=errors, linestyle='none', label=look.title, **settings)
  for ax, metric in zip(axes, curved):
    title = {'acc': 'accuracy, %', 'ece': 'ECE, %'}[metric]
    ax.set(xlabel='severity (0: the test set)', ylabel=title, xticks=range(6))
  if kinds:
    between = '\n' if style.is_narrow() else ' '
    axes[-1].set(xlabel=f'accuracy at severity {SEVERITY}, %')
    axes[-1].set_yticks(range(len(kinds)), [kind.replace('_', between) for kind in kinds])
    axes[-1].invert_yaxis()
    axes[-1].grid(axis='y', color=style.GRID, linewidth=0.6)
  style.legend_below(figure, axes[0], columns=len(found))
  return figure


def _curve(row: dict, metric: str) -> _Curve:
  """Return a metric in percent by severity, from the test set on, with its standard errors."""
  kinds = [own for own in shifts(row['metrics']).values() if any(metric in v for v in own.values())]
  severities = sorted({s for own in kinds for s, values in own.items() if metric in values})
  values, errors = [row['metrics'].get(metric)], [noise.of_row(row, metric)]
  for severity in severities:
    own = [kind[severity][metric] for kind in kinds if metric in kind.get(severity, {})]
    values.append(float(np.mean(own)))
    errors.append(noise.of_row(row, f'shift/mean/{severity}/{metric}'))
  scaled = [100 * np.array([v or 0.0 for v in found]) for found in (values, errors)]
  return _Curve([0, *severities], *scaled)


def shifts(metrics: dict) -> dict[str, dict[int, dict[str, float]]]:
  """Return {kind: {severity: {metric: value}}} from 'shift/<kind>/<severity>/<metric>'."""
  found: dict[str, dict[int, dict[str, float]]] = {}
  for key, value in metrics.items():
    parts = key.split('/')
    if len(parts) == 4 and parts[0] == 'shift' and parts[1] != 'mean' and value is not None:
      found.setdefault(parts[1], {}).setdefault(int(parts[2]), {})[parts[3]] = value
  return found
