"""Objectives: what is matched between a student's outputs and those of the teacher's members.

An objective decides what the student's outputs mean: their number, their loss on labels and their
predictive distribution. `mean`, `members`, ... return the mean loss of a batch. Each has a
`..._loss`, which returns the loss per example and the logged terms. `make` returns the Objective
that a training step uses.
"""

import inspect

from ensdistill import names
from ensdistill.objectives.classification import (
  dirichlet,
  make_dirichlet,
  make_prior_network,
  make_proxy_dirichlet,
  prior_network,
  proxy_dirichlet,
)
from ensdistill.objectives.matching import make_mean, make_members, make_none, mean, members
from ensdistill.objectives.objective import Objective
from ensdistill.objectives.regression import make_least_squares, make_normal_wishart, normal_wishart

__all__ = [
  'OBJECTIVES',
  'Objective',
  'dirichlet',
  'make',
  'mean',
  'members',
  'normal_wishart',
  'prior_network',
  'proxy_dirichlet',
]

OBJECTIVES = names.Registry(
  'objective',
  {
    'none': make_none,
    'least_squares': make_least_squares,
    'mean': make_mean,
    'members': make_members,
    'dirichlet': make_dirichlet,
    'proxy_dirichlet': make_proxy_dirichlet,
    'normal_wishart': make_normal_wishart,
    'prior_network': make_prior_network,
  },
)


def make(name, **settings) -> Objective:
  """Return the objective of a name; an unknown name or setting is an error with the known ones."""
  builder = names.lookup('objective', name, OBJECTIVES)
  names.check_settings(f'objective {name!r}', settings, inspect.signature(builder).parameters)
  return names.build('objective', name, Objective, builder, **settings)
