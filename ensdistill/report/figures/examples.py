"""A sheet of examples of a data set, as the network gets them."""

import numpy as np

from ensdistill import families
from ensdistill.report.figures import style

_MOST = 12  # drawn columns of a table
_WIDTH = 5.0  # width of a title in inches


def images(rows, names, title: str):
  """Return a figure with a row of images [N, H, W, C] in [0, 1] for each name."""
  count = max(len(row) for row in rows)
  height, width = rows[0].shape[1:3]
  gap = max(width // 16, 1)
  sheet = np.ones((len(rows) * (height + gap), count * (width + gap), 3))
  for i, row in enumerate(rows):
    for j, image in enumerate(row):
      colour = image if image.shape[-1] == 3 else image[..., :1]
      sheet[i * (height + gap) :, j * (width + gap) :][:height, :width] = colour
  size = {'width': max(count + 1, _WIDTH), 'height': len(rows) * height / width + 0.3}
  figure, ((ax,),) = style.panels(1, 1, **size)
  ax.imshow(sheet)
  ax.set(title=title, xticks=[])
  ax.set_yticks(
    np.arange(len(rows)) * (height + gap) + height / 2,
    [name if len(name) <= 20 else name[:19] + '…' for name in names],
  )
  ax.tick_params(length=0)
  ax.spines[:].set_visible(False)
  return figure


def columns(x, y, dataset, title: str):
  """Return histograms of a table's standardised inputs by class, or of inputs and targets."""
  x = (x - np.asarray(dataset.mean)[None]) / np.asarray(dataset.std)[None]
  shown = min(x.shape[1], _MOST)
  names = list(dataset.columns or map(str, range(x.shape[1])))[:shown]
  values = list(x.T[:shown])
  has_classes = y is not None and families.FAMILIES[dataset.family].has_classes
  if y is not None and not has_classes:
    names += ['target' if y.shape[1] == 1 else f'target {i + 1}' for i in range(y.shape[1])]
    values += list(y.T)
  across = min(len(values), 4)
  figure, axes = style.panels(
    -(-len(values) // across), across, width=max(2.3, _WIDTH / across), height=1.7
  )
  for ax, name, column in zip(axes.flat, names, values):
    bins = np.histogram_bin_edges(column, 30)
    if has_classes and dataset.targets <= len(style.CYCLE):
      for label, hue in zip(range(dataset.targets), style.CYCLE):
        of_class = dataset.classes[label] if dataset.classes else f'class {label}'
        ax.hist(column[y == label], bins, histtype='step', color=hue, label=of_class)
    else:
      ax.hist(column, bins, color=style.BLUE)
    ax.set(title=name, yticks=[])
  for ax in axes.flat[len(values) :]:
    ax.set_visible(False)
  figure.suptitle(title)
  if axes.flat[0].get_legend_handles_labels()[0]:
    style.legend_below(figure, axes.flat[0], columns=dataset.targets)
  return figure
