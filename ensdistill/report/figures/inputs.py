"""Inputs as the student saw them: clean, and moved by the run's perturbation."""

import numpy as np

from ensdistill.report.figures import style


def perturbed(context):
  """Where the perturbation moves inputs: clean, moved, and their difference magnified to full
  contrast (red up, blue down). The numbers are the ensemble's knowledge uncertainty.
  """
  probe = context.probes.moved
  if probe is None:
    return None
  shape = probe.clean.shape[1:]
  if len(shape) == 3 and shape[2] in (1, 3):
    return _images(probe)
  return _arrows(probe) if shape == (2,) else None


def _images(probe):
  difference = (probe.moved - probe.clean).mean(-1)
  top = float(np.abs(difference).max()) or 1.0
  times = f'{1 / top:.0f} ×' if top < 0.5 else f'{1 / top:.1f} ×'
  count = len(difference)
  figure, axes = style.panels(3, 1, width=0.95 * count, height=1.15)
  for ax, x, unsure, text, settings in (
    (axes[0, 0], probe.clean, probe.before, 'clean', dict(cmap='gray', vmin=0, vmax=1)),
    (axes[1, 0], probe.moved, probe.after, probe.name, dict(cmap='gray', vmin=0, vmax=1)),
    (axes[2, 0], difference, [], f'difference\n{times}', dict(cmap='RdBu_r', vmin=-top, vmax=top)),
  ):
    ax.set(xticks=[], yticks=[], ylabel=text)
    for i, image in enumerate(x):
      ax.imshow(image.squeeze(), extent=(1.1 * i, 1.1 * i + 1, 1, 0), **settings)
    for i, value in enumerate(unsure):
      ax.text(1.1 * i + 0.5, -0.03, f'{value:.2g}', ha='center', va='bottom', size=8)
    ax.set(xlim=(0, 1.1 * count - 0.1), ylim=(1, 0), aspect='equal')
    ax.spines[:].set_visible(False)
  return figure


def _arrows(probe):
  figure, ((ax,),) = style.panels(1, 1, width=4.5, height=4)
  step = probe.moved - probe.clean
  image = ax.quiver(*probe.clean.T, *step.T, probe.after, angles='xy', scale_units='xy', scale=1)
  ax.plot(*probe.clean.T, '.', color=style.GREY, markersize=2)
  ax.set(title=f'test inputs moved by {probe.name}', aspect='equal')
  figure.colorbar(image, label='knowledge uncertainty after')
  return figure
