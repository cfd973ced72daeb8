"""Uncertainty over two-dimensional inputs."""

import numpy as np

from ensdistill.report.figures import style

SHOWN = 600  # training points; more would hide the plane


def plane(context):
  """Each uncertainty over the input plane, with training data as dots, one colour for each class.
  Knowledge uncertainty should be low near the data and grow away from them. Data uncertainty should
  be high where classes overlap. The panels of one uncertainty have one colour scale.
  """
  grid = context.probes.plane
  if grid is None:
    return None
  found = {name: context.arrays(p).uncertainties for name, p in grid.predictives.items()}
  kinds = ('total', 'data', 'knowledge')
  size = dict(width=2.5, height=3.0 if style.is_narrow() else 2.3)
  figure, axes = style.panels(len(found), 3, sharex=True, sharey=True, **size)
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
      _data(ax, context)
      ax.set_aspect('equal')
      if kind == 'total':
        ax.set_ylabel(f'{context.look(name).title}\n{up}')
    column[0].set_title(f'{kind} uncertainty')
    column[-1].set_xlabel(across)
    bar = dict(location='bottom', shrink=0.9, aspect=25, pad=0.02, label=context.unit)
    figure.colorbar(image, ax=list(column), **bar)
  return figure


def _data(ax, context):
  """Draw training points, coloured by class."""
  x, y = context.dataset.train
  some = np.random.default_rng(0).permutation(len(x))[:SHOWN]
  labels = y[some] if context.has_classes else np.zeros(len(some), int)
  for label in np.unique(labels):
    points = x[some][labels == label]
    # The thin edge shows white dots on bright areas.
    looks = dict(color=('white', style.VERMILLION, style.SKY)[label % 3], markeredgecolor='black')
    ax.plot(*points.T, 'o', markersize=1.7, markeredgewidth=0.2, rasterized=True, **looks)
