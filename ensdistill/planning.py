"""From a configuration and its data to a checked plan: the same checks for every way to train."""

import pathlib

from ensdistill import given
from ensdistill.config import build, checks, imported, inputs, tried
from ensdistill.config.build import Parts, Plan


def parts(config) -> Parts:
  """Return the parts of a configuration that need no data, after all checks that need none."""
  imported.record(config)
  found = build.parts(config)
  checks.check(config, found)
  return found


def plan(
  config,
  parts: Parts,
  dataset,
  training,
  folder: str | pathlib.Path,
  ensemble: 'given.Outputs | given.Functions | None' = None,
) -> Plan:
  """Return the plan of a configuration after all checks of it with its data.

  Args:
    config: the configuration; what its data and the ensemble decide is written into it.
    parts: those that `parts` returned for it.
    dataset: what the teacher learns from, and what is evaluated.
    training: what the student learns from, with auxiliary inputs if there are any.
    folder: the run's folder; nothing is written.
    ensemble: an ensemble that was trained elsewhere.
  """
  if ensemble:
    given.adopt(config, ensemble)
    given.check_gradients(ensemble, dataset, parts.perturbation)
  checks.settle_targets(config, parts, training.in_files)
  checks.check_fits(config, parts, dataset.family)
  inputs.check_augmentation(parts.augment, dataset)
  found = build.plan(config, parts, dataset, training, folder, ensemble)
  tried.check(found)
  return found
