"""Calibration: whether the confidence is right, and whether it finds the errors."""

from typing import NamedTuple

import numpy as np

from ensdistill import metrics
from ensdistill.metrics import calibration, scoring
from ensdistill.report.figures import style

BINS = 15
WORSE = 1e-3  # rise of the ECE from which on it is called worse
FEW = 10  # bins are joined with their neighbours until each has as many predictions


def reliability(context):
  """Reliability before and after temperature scaling. Each point is a bin of predictions: their
  accuracy against their mean confidence, with a 95 % interval. The diagonal is perfect, below it a
  model is overconfident. Neighbouring bins are joined until each has at least ten predictions.
  Below: the share of the predictions by their confidence. The temperature T is fitted to the NLL of
  the validation set, so the ECE may rise, above all on a small test set. Without validation
  examples there is no temperature to fit.
  """
  if not context.has_classes:
    return None
  names, y_B = context.main, context.dataset.test.y
  figure, axes = style.panels(
    2, len(names), height=1.75, sharex=True, sharey='row', height_ratios=(3, 1)
  )
  for (upper, lower), name in zip(axes.T, names):
    upper.plot([0, 1], [0, 1], color=style.PALE, linewidth=1, zorder=0)
    looks = (
      (style.ORANGE, 'o', 'before temperature'),
      (style.BLUE, 's', 'after temperature'),
    )
    repeats = len(context.predictions(name, 'test'))
    for table, (colour, marker, when) in zip(_tables(context, name, y_B), looks):
      _points(upper, joined(table, FEW * repeats), colour, marker, when, repeats)
      share = 100 * table.count / table.count.sum()
      lower.stairs(share, np.append(table.lower, 1), color=colour, linewidth=1.2)
    title = f'{context.look(name).title}\n{_words(context, name)}'
    upper.set(title=title, xlim=(0, 1.02), ylim=(0, 1.04))
    upper.title.set_size(8.5)
    lower.set(xlabel='confidence', yscale='log', ylim=(1e-2, 150))
    style.log_axis(lower.yaxis, 3)
  axes[0, 0].set_ylabel('accuracy')
  axes[1, 0].set_ylabel('share, %')
  figure.align_ylabels(axes[:, 0])
  style.legend_below(figure, axes[0, 0])
  return figure


def _words(context, name) -> str:
  """Return the ECE before and after the temperature, and what the temperature did."""
  before, after = (context.metric(name, key) for key in ('ece', 'cece'))
  if after is None or not np.isfinite(after):
    return f'ECE {100 * before:.2f} %'
  worse = ', worse' if after > before + WORSE else ''
  temperature = context.metric(name, 'temperature')
  return f'ECE {100 * before:.2f} → {100 * after:.2f} %{worse}\nT = {temperature:.2f}'


def _tables(context, name, y_B):
  """Return the bins before and (with validation examples) after temperature, over all repeats.

  Each repeat has its own fitted temperature.
  """
  before, after = [], []
  tests = context.predictions(name, 'test')
  for test in tests:
    before.append((np.exp(test.log_probs_BK.max(-1)), scoring.correct(test.log_probs_BK, y_B)))
  if not context.dataset.valid_is_empty:
    for test, valid in zip(tests, context.predictions(name, 'valid')):
      temperature = metrics.usable_temperature(valid.log_probs_BK, context.dataset.valid.y)
      soft_BK = metrics.apply_temperature(test.log_probs_BK, temperature)
      after.append((np.exp(soft_BK.max(-1)), scoring.correct(test.log_probs_BK, y_B)))
  tables = []
  for pairs in filter(None, (before, after)):
    confidence, correct = (np.concatenate(part) for part in zip(*pairs))
    tables.append(calibration.bin_table(confidence, correct, BINS, metrics.summary.ROUNDING))
  return tables


class Bins(NamedTuple):
  """Bins of predictions: the mean confidence, the accuracy and the size of each."""

  confidence: np.ndarray
  accuracy: np.ndarray
  size: np.ndarray


def joined(table, least: int) -> Bins:
  """Return bins of at least `least` predictions, joined from the top down.

  What is left over at the bottom joins the last bin.
  """
  sums: list[np.ndarray] = []
  full = True
  for count, confidence, accuracy in zip(*(a[::-1] for a in _columns(table))):
    if not count:
      continue
    own = np.array([count, count * confidence, count * accuracy])
    if full:
      sums.append(own)
    else:
      sums[-1] = sums[-1] + own
    full = sums[-1][0] >= least
  if not full and len(sums) > 1:
    sums[-2:] = [sums[-2] + sums[-1]]
  count, confidence, accuracy = np.array(sums[::-1]).T
  return Bins(confidence / count, accuracy / count, count)


def _columns(table):
  return table.count, table.confidence, table.accuracy


def _points(axes, bins: Bins, colour, marker, label, repeats):
  """Draw bins with their intervals.

  Repeats see the same examples, so all repeats together count as one.
  """
  low, high = interval(bins.accuracy, bins.size / repeats)
  errors = np.maximum([bins.accuracy - low, high - bins.accuracy], 0)
  looks = dict(color=colour, marker=marker, markersize=3.5, elinewidth=0.8, linewidth=1)
  axes.errorbar(bins.confidence, bins.accuracy, yerr=errors, label=label, **looks)


def interval(share, count, z=1.96):
  """Return Wilson's 95 % interval of a share: low, high."""
  middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
  half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
  return middle - half, middle + half


_SCORES = {
  'total': ('total uncertainty', style.BLUE, '-'),
  'data': ('data uncertainty', style.GREEN, '-.'),
  'knowledge': ('knowledge uncertainty', style.VERMILLION, '-'),
}


def rejection(context):
  """Error that remains after the most uncertain predictions are rejected. The dashed line rejects
  all errors first, the dotted line rejects at random. PRR, in percent, says how far a curve lies
  from the dotted towards the dashed line.
  """
  # A model without any error, or with nothing else, has nothing to reject.
  names = [n for n in context.main if any(np.ptp(loss) > 0 for loss in context.losses(n))]
  if not names:
    return None
  figure, axes = style.panels(1, len(names), height=2.7, sharex=True, sharey=True)
  curves = {name: _rejections(context, name) for name in names}
  for ax, (name, found) in zip(axes[0], curves.items()):
    prr = ', '.join(f'{k} {context.metric(name, f"prr_{k}"):.0f}' for k in found if k != 'data')
    for kind, curve in found.items():
      label, colour, line = _SCORES[kind]
      ax.plot(100 * curve.rejected, curve.model, color=colour, linestyle=line, label=label)
    for kind, line in (('random', ':'), ('oracle', '--')):
      y = getattr(curve, kind)
      ax.plot(100 * curve.rejected, y, line, color=style.GREY, linewidth=1, label=kind)
    ax.set(title=f'{context.look(name).title}\nPRR {prr}', xlabel='rejected, %')
  most = max(curve.random[0] for found in curves.values() for curve in found.values())
  axes[0, 0].set(xlim=(0, _end(curves)), ylim=(0, 1.05 * most))
  axes[0, 0].set_ylabel('error left, % of all' if context.has_classes else 'squared error left')
  style.legend_below(figure, max(axes[0], key=lambda ax: len(ax.lines)), columns=5)
  return figure


def _rejections(context, name):
  """Return {score: rejection curve, the mean over the model's repeats}; 0-1 errors in percent."""
  scale = 100 if context.has_classes else 1
  losses, found = [scale * loss for loss in context.losses(name)], {}
  for kind in _SCORES if context.knows(name) else ('total',):
    scores = [p.uncertainties[kind] for p in context.predictions(name, 'test')]
    curves = [metrics.rejection_curve(s, l) for s, l in zip(scores, losses)]
    found[kind] = metrics.uncertainty.Rejection(*(np.mean(part, 0) for part in zip(*curves)))
  return found


def _end(curves):
  """Return the percent rejected at which little error is left, so the curves fill the picture."""
  ends = [
    curve.rejected[np.argmax(curve.model <= 0.03 * curve.model[0])]
    for found in curves.values()
    for curve in found.values()
  ]
  return float(np.clip(130 * max(ends), 5, 100))
