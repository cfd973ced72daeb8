"""Regression: predictions along the input, and calibration of their intervals."""

import numpy as np

from ensdistill import metrics
from ensdistill.metrics.distributions import host
from ensdistill.report.figures import calibration, style

TARGETS = 3  # most rows of bands
LEVELS = np.linspace(0.05, 0.95, 19)
SHARP = (50, 90, 95)  # levels of the metrics sharpness_<level>
WIDTH = 2  # half the width of a band, in standard deviations


def bands(context):
  """Predictions along the input, with the training points: the mean, and two standard deviations of
  data uncertainty (noise) and of knowledge uncertainty (disagreement) on either side. Knowledge
  uncertainty should be narrow near the points and wide where there are none. The bands of a good
  student match the ensemble's.
  """
  line = context.probes.line
  if line is None or context.has_classes:
    return None
  train, found = context.dataset.train, {n: host(p) for n, p in line.predictives.items()}
  rows = min(context.dataset.targets, TARGETS)
  figure, axes = style.panels(rows, len(found), width=3.9, height=2.9, sharex=True, sharey='row')
  for column, (name, p) in zip(axes.T, found.items()):
    column[0].set_title(context.look(name).title)
    for d, ax in enumerate(column):
      _bands(ax, line.x[:, 0], p.mean()[:, d], p.data()[:, d], p.knowledge()[:, d])
      ax.plot(train.x[:, 0], train.y[:, d], '.', color=style.INK, markersize=2.5, label='training')
  for d, ax in enumerate(axes[:, 0]):
    ax.set(ylabel=f'target {d + 1}' if rows > 1 else 'target', ylim=_span(train.y[:, d], found, d))
  for ax in axes[-1]:
    ax.set(xlabel='input', xlim=(line.x[0, 0], line.x[-1, 0]))
  style.legend_below(figure, axes[0, 0], columns=4)
  return figure


def _bands(ax, x, mean, data, knowledge):
  for variance, colour, label in (
    (data, style.SKY, 'data uncertainty'),
    (knowledge, style.VERMILLION, 'knowledge uncertainty'),
  ):
    half = WIDTH * np.sqrt(variance)
    fill = dict(color=colour, alpha=0.35, linewidth=0)
    ax.fill_between(x, mean - half, mean + half, label=f'{label}, ±{WIDTH} sd', **fill)
  ax.plot(x, mean, color=style.BLUE, linewidth=1.2, label='mean')


def _span(y, found, d):
  """Return limits that show the points and the bands; very wide bands are cut."""
  low, high = y.min(), y.max()
  reach = high - low
  for p in found.values():
    half = WIDTH * np.sqrt(np.maximum(p.data(), p.knowledge())[:, d])
    low, high = min(low, (p.mean()[:, d] - half).min()), max(high, (p.mean()[:, d] + half).max())
  return max(low, y.min() - reach) - 0.03 * reach, min(high, y.max() + reach) + 0.03 * reach


def pit(context):
  """Position of the targets in their predicted distributions (probability integral transform). A
  flat histogram is calibrated. A hill means that predictions are too wide, a valley that they are
  too narrow, a slope that they are biased. The grey band covers 95 % of a flat histogram's noise.
  """
  if context.has_classes:
    return None
  names = context.main
  figure, axes = style.panels(1, len(names), height=2.4, sharex=True, sharey=True)
  for ax, name in zip(axes[0], names):
    values = np.concatenate([u.ravel() for u in context.pits(name)])
    single = context.dataset.test.y.size  # repeats see the same targets, so they count once
    bins = int(np.clip(single // 20, 5, 20))
    share = 1 / bins
    low, high = calibration.interval(np.array([share]), single)
    ax.axhspan(bins * low[0], bins * high[0], color=style.PALE, alpha=0.6, linewidth=0)
    ax.axhline(1, color=style.GREY, linewidth=0.8)
    colour = context.look(name).colour
    density, edges = np.histogram(values, bins, (0, 1), density=True)
    ax.stairs(density, edges, color=colour, fill=True, alpha=0.3)
    ax.stairs(density, edges, color=colour, linewidth=1.4)
    error = context.metric(name, 'calibration_error')
    ax.set(title=f'{context.look(name).title}\ncalibration error {error:.3f}', xlim=(0, 1))
    ax.set(xlabel='predicted P(target ≤ y)', xticks=(0, 0.5, 1))
  axes[0, 0].set(ylabel='density', ylim=(0, None))
  return figure


def coverage(context):
  """Curves: how many more targets lie inside their central intervals than should, in percentage
  points by the level of the interval. Above zero intervals are too wide, below zero too narrow; the
  grey band covers 95 % of the noise of a calibrated model. Single points: mean width of the
  intervals, relative to one member's. Of two models with the right coverage, the one with narrower
  intervals is better.
  """
  if context.has_classes:
    return None
  figure, ((left, right),) = style.panels(1, 2, width=3.5, height=2.9)
  single = context.dataset.test.y.size  # repeats see the same targets, so they count once
  low, high = calibration.interval(LEVELS, single)
  band = [100 * (edge - LEVELS) for edge in (low, high)]
  left.fill_between(100 * LEVELS, *band, color=style.PALE, alpha=0.6, linewidth=0)
  left.axhline(0, color=style.GREY, linewidth=0.8)
  base = np.array([context.metric(context.main[0], f'sharpness_{level}') for level in SHARP])
  for number, name in enumerate(context.main):
    look = context.look(name)
    settings = dict(color=look.colour, marker=look.marker, markersize=3)
    shares = [metrics.regression.covered(u, LEVELS) for u in context.pits(name)]
    left.plot(
      100 * LEVELS, 100 * (np.mean(shares, 0) - LEVELS), label=look.title, linewidth=1.2, **settings
    )
    widths = np.array([context.metric(name, f'sharpness_{level}') for level in SHARP])
    place = np.arange(len(SHARP)) + 0.12 * (number - (len(context.main) - 1) / 2)
    right.plot(place, widths / base, linestyle='none', **(settings | {'markersize': 5}))
  left.set(
    xlabel='level of the interval, %', ylabel='targets within − level, points', xlim=(0, 100)
  )
  right.axhline(1, color=style.PALE, linewidth=1, zorder=0)
  right.set(xlabel='level of the interval, %', ylabel='mean width / one member’s')
  right.set_xlim(-0.5, len(SHARP) - 0.5)
  right.set_xticks(range(len(SHARP)), list(map(str, SHARP)))
  right.margins(y=0.25)
  style.legend_below(figure, left, columns=len(context.main))
  return figure
