"""Predictive distributions: a prediction, its uncertainty, and the part due to lack of knowledge.

Each class is a pytree of arrays with a leading batch axis and works inside and outside of jit.
"""

from ensdistill.predictive.classification import Dirichlet, Mixture
from ensdistill.predictive.regression import GaussianMixture, NormalWishart

__all__ = ['Dirichlet', 'GaussianMixture', 'Mixture', 'NormalWishart']
