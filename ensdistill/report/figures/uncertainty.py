"""Uncertainty in and out of distribution."""

import numpy as np

from ensdistill import metrics
from ensdistill.report.figures import style

BINS = 40


def ood(context):
  """Knowledge and total uncertainty in and out of distribution: the ensemble upwards, the student
  downwards. The further apart the two colours, the better the model detects OOD inputs (AUROC).
  """
  sets = context.sets('ood/')
  if not sets or not context.ensemble or not context.students:
    return None
  student = next(filter(context.knows, context.students), context.students[-1])
  pair = context.ensemble, student
  kinds = ['knowledge', 'total'] if context.knows(context.ensemble) else ['total']
  figure, axes = style.panels(len(kinds), len(sets), width=3.4, height=2.5, sharey='row')
  for row, kind in zip(axes, kinds):
    for ax, name in zip(row, sets):
      _mirrored(ax, context, pair, kind, name)
    low, high = (f([ax.get_ylim() for ax in row]) for f in (np.min, np.max))
    row[0].set_ylim(low, high)
    row[0].set_ylabel('share of examples, %')
  for ax, name in zip(axes[0], sets):
    ax.set_title(f'test set against {name.removeprefix("ood/")}')
  style.legend_below(figure, axes[0, 0])
  return figure


def _mirrored(ax, context, pair, kind, name):
  """Draw the histograms of two models, the first upwards, the second downwards."""
  values = {
    (model, where): context.uncertainty(model, where, kind)
    for model in pair
    for where in ('test', name)
    if kind != 'knowledge' or context.knows(model)
  }
  edges = _edges(np.concatenate(list(values.values())))
  for (model, where), x in values.items():
    side = 1 if model == pair[0] else -1
    weights = np.full(len(x), side * 100 / len(x))
    share, _ = np.histogram(np.clip(x, edges[0], edges[-1]), edges, weights=weights)
    colour, text = (style.BLUE, 'test set') if where == 'test' else (style.ORANGE, 'OOD set')
    ax.stairs(share, edges, color=colour, fill=True, alpha=0.45, label=text if side > 0 else None)
    ax.stairs(share, edges, color=colour, linewidth=1)
  ax.axhline(0, color=style.BLACK, linewidth=0.6)
  if edges[0] > 0:
    ax.set_xscale('log')
    style.log_axis(ax.xaxis)
  unit = ', nats' if context.has_classes else ' (variance)'
  ax.set(xlabel=f'{kind} uncertainty{unit}', xlim=(edges[0], edges[-1]))
  low, high = ax.get_ylim()
  ax.set_ylim(min(low, -high / 3) * 1.3, high * 1.3)
  ax.yaxis.set_major_formatter(_without_sign)
  box = dict(facecolor='white', alpha=0.7, linewidth=0, pad=1)
  for model, height, align in ((pair[0], 0.97, 'top'), (pair[1], 0.03, 'bottom')):
    text = _words(context, model, kind, name)
    ax.text(0.02, height, text, transform=ax.transAxes, va=align, size=8, bbox=box)


def _without_sign(value, _):
  return f'{abs(value):g}'


def _words(context, model, kind, name):
  """Return the title of a model and its AUROC."""
  title = context.look(model).title
  if kind == 'knowledge' and not context.knows(model):
    return f'{title}: has no knowledge\nuncertainty (one network)'
  pairs = zip(context.predictions(model, 'test'), context.predictions(model, name))
  aurocs = [metrics.auroc(a.uncertainties[kind], b.uncertainties[kind]) for a, b in pairs]
  return f'{title}\nAUROC {np.mean(aurocs):.3f}'


def _edges(x):
  """Return the edges of bins, logarithmic where values span orders of magnitude."""
  low, high = np.quantile(x, [0.005, 1])
  if high <= 0:
    return np.linspace(0, 1, BINS + 1)
  low = max(low, high * 1e-6)
  if high / low > 30:
    return np.geomspace(low, high, BINS + 1)
  return np.linspace(0, high, BINS + 1)
