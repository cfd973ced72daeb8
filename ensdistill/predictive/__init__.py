"""Predictive distributions: what a model says, how unsure it is, and which part is knowledge.

Each one is a pytree of arrays with a leading batch axis, made and read inside or outside of jit.
"""

from ensdistill.predictive.classification import Dirichlet, Mixture
from ensdistill.predictive.regression import GaussianMixture, NormalWishart

__all__ = ['Dirichlet', 'GaussianMixture', 'Mixture', 'NormalWishart']
