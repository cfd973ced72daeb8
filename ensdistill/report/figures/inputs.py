"""Inputs as the student saw them: clean, and moved by the run's perturbation."""

import numpy as np

from ensdistill.report.figures import style


def perturbed(context):
  """Where the perturbation moves inputs: clean, moved, and their difference magnified to full
  contrast (red up, blue down). The numbers are the ensemble's knowledge uncertainty in nats.
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
  figure, axes = style.panels(3, len(probe.clean), width=0.95, height=1.1)
  for i, (first, second, third) in enumerate(axes.T):
    for ax, image, unsure in (
      (first, probe.clean, probe.before),
      (second, probe.moved, probe.after),
    ):
      ax.imshow(image[i].squeeze(), cmap='gray', vmin=0, vmax=1)
      ax.set_title(f'{unsure[i]:.2g}', size=8, pad=2)
    third.imshow(difference[i], cmap='RdBu_r', vmin=-top, vmax=top)
  magnified = f'{1 / top:.0f} ×' if top < 0.5 else f'{1 / top:.1f} ×'
  for ax, text in zip(axes[:, 0], ('clean', probe.name, f'difference\n{magnified}')):
    ax.set_ylabel(text)
  for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
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
