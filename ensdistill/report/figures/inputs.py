"""Inputs before and after the run's perturbation."""

import numpy as np

from ensdistill.report.figures import style


def perturbed(context):
  """Test inputs before and after the perturbation, and their difference, magnified to full contrast
  (red up, blue down). The numbers are the ensemble's knowledge uncertainty of each input.
  """
  probe = context.probes.moved
  if probe is None:
    return None
  shape = probe.clean.shape[1:]
  if len(shape) == 3 and shape[2] in (1, 3):
    return _images(probe, context)
  return _arrows(probe, context.dataset) if shape == (2,) else None


def _images(probe, context):
  if style.is_narrow():
    probe = probe._replace(**{k: getattr(probe, k)[:4] for k in probe._fields[1:]})
  difference = (probe.moved - probe.clean).mean(-1)
  top = float(np.abs(difference).max()) or 1.0
  times = f'{1 / top:.0f} ×' if top < 0.5 else f'{1 / top:.1f} ×'
  count = len(difference)
  figure, axes = style.panels(3, 1, width=0.95 * count + 0.7, height=1.25)
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
    if len(unsure):
      ax.text(-0.05, -0.03, 'knowledge', ha='right', va='bottom', size=8, color=style.GREY)
    ax.set(xlim=(0, 1.1 * count - 0.1), ylim=(1, 0), aspect='equal')
    ax.spines[:].set_visible(False)
  for i, title in enumerate(_titles(context, count)):
    axes[0, 0].text(1.1 * i + 0.5, -0.22, title, ha='center', va='bottom', size=8)
  if context.has_classes:
    axes[0, 0].text(-0.05, -0.22, 'label', ha='right', va='bottom', size=8, color=style.GREY)
  return figure


def _titles(context, count: int) -> list[str]:
  """Return the labels of the first test inputs, or their numbers where there are no classes."""
  if not context.has_classes:
    return [f'input {i + 1}' for i in range(count)]
  dataset = context.dataset
  names = dataset.classes or [f'class {k}' for k in range(dataset.targets)]
  labels = [str(names[y]) for y in dataset.test.y[:count]]
  return [label if len(label) <= 14 else label[:13] + '…' for label in labels]


def _arrows(probe, dataset):
  figure, ((ax,),) = style.panels(1, 1, width=4.5, height=4)
  step = probe.moved - probe.clean
  image = ax.quiver(*probe.clean.T, *step.T, probe.after, angles='xy', scale_units='xy', scale=1)
  ax.plot(*probe.clean.T, '.', color=style.GREY, markersize=2)
  across, up = style.input_names(dataset)
  ax.set(title=f'test inputs moved by {probe.name}', aspect='equal', xlabel=across, ylabel=up)
  figure.colorbar(image, label='knowledge uncertainty after')
  return figure
