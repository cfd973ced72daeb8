"""Loss and accuracy between the members of a batch ensemble and their average."""

import numpy as np
from matplotlib import patheffects, ticker

from ensdistill.evaluation.rows import AVERAGED
from ensdistill.report.figures import style

LEVELS = 16  # about this many contours
_AVERAGE = style.look(AVERAGED, 1)
_COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.SKY, style.INK)
_SCORES = {'nll': ('NLL', 1), 'acc': ('accuracy, %', 100), 'rmse': ('RMSE', 1)}


def subspace(context):
  """Plain networks between the student's members and their average, on at most 500 test examples.
  Their factors are average + t (member − average); all share the batch-norm statistics. The map:
  NLL in the plane through the first three members, or through two members and a random direction;
  the last colour stands for all higher values. The average of more than three members is marked at
  its nearest point of the plane. A student that can be averaged has a low loss from its members to
  the average.
  """
  probe = context.probes.subspace
  if probe is None:
    return None
  names = [name for name in _SCORES if name in probe.lines]
  count = len(names) + (probe.plane is not None)
  figure, (axes,) = style.panels(1, count, width=3.3, height=3.0)
  for ax, name in zip(axes, names):
    _lines(ax, probe.t, probe.lines[name], *_SCORES[name])
  style.legend_below(figure, axes[0], columns=len(_COLOURS) + 1)
  if probe.plane is not None:
    _plane(figure, axes[-1], probe.plane, _top(probe))
  return figure


def _ends(t) -> list[int]:
  """Return where a line has its average and its member."""
  return [int(np.abs(t - end).argmin()) for end in (0, 1)]


def _top(probe) -> float:
  """Return the highest NLL with a colour of its own: not much above members and average.

  Values far away may be hundreds of times higher.
  """
  nll = probe.plane.nll[np.isfinite(probe.plane.nll)]
  marked = probe.lines['nll'][: len(probe.plane.members), _ends(probe.t)].max()
  reach = nll.min() + 2.5 * (marked - nll.min())
  return float(np.clip(reach, *np.quantile(nll, [0.5, 0.9])))


def _lines(ax, t, values, title: str, scale: float):
  """Draw a score along the lines of all members, which meet in the average."""
  start, end = _ends(t)
  for i, (line, colour) in enumerate(zip(scale * values, _COLOURS)):
    ax.plot(t, line, color=colour, linewidth=1.2, label=f'member {i + 1}')
    ax.plot(t[end], line[end], 'o', color=colour, markersize=4)
  ax.plot(
    t[start],
    scale * values[0, start],
    color=_AVERAGE.colour,
    marker=_AVERAGE.marker,
    linestyle='none',
    label='average',
  )
  ax.set(xlabel='t', ylabel=title, xlim=(t[0], t[-1]), xticks=(0, 1))
  ax.set_xticklabels(['0\naverage', '1\nmember'])
  ax.grid(color=style.GRID, linewidth=0.6)


def _plane(figure, ax, plane, top: float):
  """Draw NLL as filled contours up to `top`; all higher values share the last colour."""
  low = float(np.nanmin(plane.nll))
  if low < top:
    levels = ticker.MaxNLocator(LEVELS).tick_values(low, top)
    filled = ax.contourf(plane.across, plane.up, plane.nll, levels, extend='max')
    figure.colorbar(filled, ax=ax, shrink=0.85)
  edge = [patheffects.withStroke(linewidth=1.5, foreground='black')]
  for i, ((x, y), colour) in enumerate(zip(plane.members, _COLOURS)):
    ax.plot(x, y, 'o', color=colour, markeredgecolor='white', markersize=6)
    near = dict(xytext=(5, 4), textcoords='offset points', path_effects=edge)
    ax.annotate(str(i + 1), (x, y), color='white', size=8, **near)
  ax.plot(0, 0, _AVERAGE.marker, color=_AVERAGE.colour, markeredgecolor='white', markersize=7)
  ax.set(title='NLL in the plane', aspect='equal', xlabel='distance between the factors')
  if len(plane.members) == 2:
    ax.set_ylabel('in a random direction')
