"""The experiments of the papers, a module for each paper, and one protocol for all methods."""

from ensdistill.config.recipes.experiments import (
  common,
  diversity_matters,
  end2,
  hydra,
  latentbe,
)
from ensdistill.config.recipes.experiments.experiment import Experiment

__all__ = ['Experiment', 'common', 'diversity_matters', 'end2', 'hydra', 'latentbe']
