"""Uncertainty in and out of distribution."""

import numpy as np
from matplotlib import ticker

from ensdistill import metrics
from ensdistill.report.figures import style

MOST = 5  # sets in one picture
LOWEST = 1e-6  # of the largest value: smaller ones are drawn there


def ood(context):
  """Share of the inputs whose uncertainty is below a value: on the test set (grey) and on
  out-of-distribution sets. The further a set's curve lies to the right of the test set's, the
  better the model tells its inputs apart. AUROC, in the order of the legend: the share of pairs of
  a test input and an OOD input of which the OOD input is the more uncertain one; 50 % is chance.
  """
  sets = context.sets('ood/')[:MOST]
  if not sets or not context.ensemble or not context.students:
    return None
  student = next(filter(context.knows, context.students), context.students[-1])
  kinds = ['total', 'knowledge'] if context.knows(context.ensemble) else ['total']
  shown = [(kind, name) for kind in kinds for name in (context.ensemble, student)]
  shown = [(kind, name) for kind, name in shown if kind == 'total' or context.knows(name)]
  across = len(shown) if len(shown) <= 3 else 2
  width = 3.4 if across < 3 else 2.7
  figure, axes = style.panels(
    -(-len(shown) // across), across, width=width, height=2.5, sharey=True
  )
  for ax, (kind, name) in zip(axes.flat, shown):
    _curves(ax, context, kind, name, sets)
  for ax in axes.flat[len(shown) :]:
    ax.remove()
  axes[0, 0].set_ylim(0, 1.02)
  for row in axes:
    row[0].set_ylabel('share of inputs below')
  style.legend_below(figure, axes[0, 0], columns=3)
  return figure


def _curves(ax, context, kind: str, name: str, sets: list[str]):
  """Draw the distribution of an uncertainty on the test set and on every other set."""
  found = {where: context.uncertainty(name, where, kind) for where in ('test', *sets)}
  low, high, log = _range(np.concatenate(list(found.values())))
  for (where, x), colour in zip(found.items(), (style.GREY, *style.CYCLE)):
    x = np.sort(np.clip(x, low, high))
    label = 'test set' if where == 'test' else where.removeprefix('ood/')
    # With a point at either end the curve reaches from 0 to 1.
    steps = np.concatenate([[low], x, [high]]), np.concatenate([[0], _ranks(x), [1]])
    ax.plot(*_thinned(*steps), drawstyle='steps-post', color=colour, label=label)
  ax.set_xlim(low, high)
  if log:
    ax.set_xscale('log')
    style.log_axis(ax.xaxis)
  else:
    ax.xaxis.set_major_locator(ticker.MaxNLocator(4))
  unit = ', nats' if context.has_classes else ' (variance)'
  ax.set_xlabel(f'{kind} uncertainty{unit}')
  aurocs = [f'{100 * auroc(context, name, kind, where):.1f}' for where in sets]
  ax.set_title(f'{context.look(name).title}, {kind}\nAUROC {", ".join(aurocs)} %', size=8.5)


def auroc(context, name: str, kind: str, where: str) -> float:
  """Return the AUROC of an uncertainty between the test set and another, the mean over repeats."""
  pairs = zip(context.predictions(name, 'test'), context.predictions(name, where))
  return float(
    np.mean([metrics.auroc(a.uncertainties[kind], b.uncertainties[kind]) for a, b in pairs])
  )


def _ranks(x) -> np.ndarray:
  return np.arange(1, len(x) + 1) / len(x)


def _thinned(x, y, most: int = 400):
  """Return at most `most` points of a curve, evenly spaced in height."""
  if len(x) <= most:
    return x, y
  kept = np.unique(np.searchsorted(y, np.linspace(0, 1, most)).clip(0, len(x) - 1))
  return x[kept], y[kept]


def _range(x):
  """Return the range of an axis, and whether it is logarithmic: values span orders of magnitude."""
  low, high = np.quantile(x, [0.01, 1])
  if high <= 0:
    return 0.0, 1.0, False
  low = max(low, high * LOWEST)
  return (low, high, True) if high / low > 30 else (0.0, high, False)
