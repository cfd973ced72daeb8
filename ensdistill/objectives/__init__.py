"""What is matched: a student's outputs against the outputs of the teacher's members.

An objective owns what the student's outputs mean: how many there are, their labels' loss and the
predictive distribution that they stand for. `mean`, `members`, ... are batch means; beneath each
lies `..._loss`, the loss per example with its logged terms, and `OBJECTIVES` makes the objective
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

OBJECTIVES = {
  'none': make_none,
  'least_squares': make_least_squares,
  'mean': make_mean,
  'members': make_members,
  'dirichlet': make_dirichlet,
  'proxy_dirichlet': make_proxy_dirichlet,
  'normal_wishart': make_normal_wishart,
  'prior_network': make_prior_network,
}


def make(name, **settings) -> Objective:
  """The objective of that name; an unknown name or setting fails with the known ones."""
  builder = names.lookup('objective', name, OBJECTIVES)
  names.settings(f'objective {name!r}', settings, inspect.signature(builder).parameters)
  return builder(**settings)
