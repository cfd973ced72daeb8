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


def draw(name: str, context: Context):
  """Return the picture of that name, or None where it does not apply."""
  with matplotlib.rc_context(style.SETTINGS):
    figure = FIGURES[name](context)
    if figure is not None:
      style.settle(figure)
    return figure


def caption(name: str) -> str:
  """Return the caption of the picture of that name."""
  return ' '.join((inspect.getdoc(FIGURES[name]) or '').split())
