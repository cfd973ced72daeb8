"""Pictures: per family a dict of functions (context) -> matplotlib Figure, None where one does not
apply. A function's docstring is the caption of its picture.

This package imports matplotlib, so it is itself imported only where a report is drawn.
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
  uncertainty,
)
from ensdistill.report.figures.context import Context

FIGURES = {
  'categorical': {
    'cost': quality.cost,
    'reliability': calibration.reliability,
    'rejection': calibration.rejection,
    'out_of_distribution': uncertainty.ood,
    'shift': quality.shift,
    'diversity': diversity.diversity,
    'input_plane': plane.plane,
    'simplex': diversity.simplex,
    'perturbed_inputs': inputs.perturbed,
  },
  'gaussian': {
    'cost': quality.cost,
    'bands': regression.bands,
    'pit': regression.pit,
    'coverage': regression.coverage,
    'rejection': calibration.rejection,
    'out_of_distribution': uncertainty.ood,
    'input_plane': plane.plane,
    'perturbed_inputs': inputs.perturbed,
  },
}


def draw(name: str, context: Context):
  """The picture of that name, or None where it does not apply."""
  with matplotlib.rc_context(style.SETTINGS):
    figure = FIGURES[context.dataset.family][name](context)
    if figure is not None:
      style.settle(figure)
    return figure


def caption(name: str, family: str) -> str:
  return ' '.join(inspect.getdoc(FIGURES[family][name]).split())


def names(family: str) -> list[str]:
  return list(FIGURES[family])
