"""Pictures: a dict of functions (context) -> matplotlib Figure, or None where one does not apply.

The docstring of each function is the caption of its picture. This package imports matplotlib, so it
is imported only where a report is drawn.
"""

import inspect

import matplotlib

from ensdistill.report.figures import (
  calibration,
  diversity,
  inputs,
  joint,
  plane,
  quality,
  regression,
  style,
  subspace,
  uncertainty,
)
from ensdistill.report.figures.context import Context

FIGURES = {
  'cost': quality.cost,
  'bands': regression.bands,
  'pit': regression.pit,
  'coverage': regression.coverage,
  'reliability': calibration.reliability,
  'rejection': calibration.rejection,
  'out_of_distribution': uncertainty.ood,
  'shift': quality.shift,
  'diversity': diversity.diversity,
  'input_plane': plane.plane,
  'simplex': diversity.simplex,
  'perturbed_inputs': inputs.perturbed,
  'subspace': subspace.subspace,
}

# Pictures of several runs on the same data: {name: (function of their rows, title)}.
JOINT = {
  'cost': (joint.cost, 'quality against cost'),
  'ranks': (joint.ranks, 'ranks of the students'),
}


def draw(name: str, context: Context, narrow: bool = False):
  """Return the picture of that name, or None where it does not apply; narrow: for a phone."""
  with matplotlib.rc_context(style.SETTINGS), style.narrow(narrow):
    figure = FIGURES[name](context)
    if figure is not None:
      style.settle(figure)
    return figure


def draw_joint(function, rows, narrow: bool = False) -> bytes | None:
  """Return a picture of the rows of several runs as SVG, or None where it does not apply."""
  with matplotlib.rc_context(style.SETTINGS), style.narrow(narrow):
    figure = function(rows)
    if figure is None:
      return None
    style.settle(figure)
    return style.svg(figure)


def caption(name: str) -> str:
  """Return the caption of the picture of that name."""
  return caption_of(FIGURES[name])


def caption_of(function) -> str:
  """Return the caption of the picture that a function draws."""
  return ' '.join((inspect.getdoc(function) or '').split())
