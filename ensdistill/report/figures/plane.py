"""Two-dimensional inputs: the plane coloured by each uncertainty."""

import numpy as np

from ensdistill.report.figures import style
from ensdistill.report.figures.context import read

SHOWN = 600  # training points, as many as leave the plane visible


def plane(context):
  """The input plane coloured by each uncertainty, with training data as dots. Knowledge uncertainty
  should be low along the data and grow away from them; data uncertainty belongs to where classes
  overlap. Each column has one colour scale.
  """
  grid = context.probes.plane
  if grid is None:
    return None
  found = {name: read(p).uncertainties for name, p in grid.predictives.items()}
  kinds = ('total', 'data', 'knowledge')
  figure, axes = style.panels(len(found), 3, width=2.5, height=2.3, sharex=True, sharey=True)
  side, (across, up) = grid.x.shape[:2], style.input_names(context.dataset)
  for column, kind in zip(axes.T, kinds):
    top = max(max(float(u[kind].max()) for u in found.values()), 1e-12)
    for ax, (name, uncertainties) in zip(column, found.items()):
      image = ax.pcolormesh(
        grid.x[..., 0],
        grid.x[..., 1],
        uncertainties[kind].reshape(side),
        vmin=0,
        vmax=top,
        shading='nearest',
        rasterized=True,
      )
      _data(ax, context.dataset)
      ax.set_aspect('equal')
      if kind == 'total':
        ax.set_ylabel(f'{style.model_title(name)}\n{up}')
    column[0].set_title(f'{kind} uncertainty')
    column[-1].set_xlabel(across)
    bar = dict(location='bottom', shrink=0.9, aspect=25, pad=0.02, label='nats')
    if context.dataset.family == 'gaussian':
      bar['label'] = 'variance'
    figure.colorbar(image, ax=list(column), **bar)
  return figure


def _data(ax, dataset):
  x, y = dataset.train.x, dataset.train.y
  some = np.random.default_rng(0).permutation(len(x))[:SHOWN]
  labels = y[some] if dataset.family == 'categorical' else np.zeros(len(some), int)
  for label in np.unique(labels):
    points = x[some][labels == label]
    colours = dict(color=('white', style.VERMILLION, style.SKY)[label % 3])
    ax.plot(*points.T, '.', markersize=1.6, markeredgewidth=0, rasterized=True, **colours)
