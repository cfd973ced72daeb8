"""Distillation as a function: arrays and an ensemble in, a student out."""

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from ensdistill import data, distillation, export, given, names, plugins, runtime, teacher
from ensdistill.config import build, checks, imported, recipes, settings
from ensdistill.families import FAMILIES
from ensdistill.logs import writers

ARRAYS = 'the given arrays'


def distil(
  ensemble,
  x,
  y=None,
  *,
  method: str = 'hydra',
  network: str | None = None,
  network_settings: Mapping[str, Any] | None = None,
  steps: int = 2000,
  batch_size: int = 128,
  seed: int = 0,
  valid: float = 0.1,
  changes: Mapping[str, Any] | None = None,
  folder: str | pathlib.Path | None = None,
  quiet: bool = False,
) -> export.Model:
  """Distil an ensemble into one network; return it as `ensdistill.load` does.

  student = ensdistill.distil(logits, x, y, method='hydra')
  student.predict(x_new).probs

  Args:
    ensemble: outputs [N, M, O] for the N examples of x; or a function x -> [B, M, O], a list of
      functions x -> [B, O] or of NNX modules, or (apply, variables) with apply(variables, x) ->
      [B, O]. Outputs are logits; for regression means, then log-variances, in the units of y.
      Methods that perturb inputs need functions.
    x: images [N, H, W, C], uint8 or floats in [0, 1], or a table [N, D].
    y: labels [N] from 0, or regression targets [N] or [N, D] as floats. Without y the student
      learns from the ensemble alone (classification), and its last checkpoint is kept.
    method: a method of the recipes, see `ensdistill list`.
    network: a backbone, see docs/networks.md, or one of your own, 'file.py:function'; None: a
      resnet for images, an mlp for tables.
    network_settings: settings of the backbone, such as {'depth': 20}.
    steps: training steps of the student.
    batch_size: examples of a step; at most the number of training examples.
    seed: seed of everything that is drawn.
    valid: share of the examples with which the checkpoint is chosen and temperatures are fitted.
    changes: other settings by name, such as {'perturb.eta': 2.0}; `ensdistill config --all`.
    folder: a folder for checkpoints and logs, so that the same call continues a killed one; None:
      a temporary folder.
    quiet: print nothing.
  """
  runtime.prepare()
  dataset = _dataset(ensemble, x, y, valid, seed)
  config = _config(method, network, network_settings, dataset, y is not None)
  config.name, config.seed, config.student.steps = method, seed, steps
  config.teacher.steps, config.data.valid = 1, len(dataset.valid.y)
  config.student.batch_size = min(batch_size, len(dataset.train.y))
  config.teacher.members = 0
  members = _members(ensemble, dataset)
  if isinstance(members, given.Outputs):
    config.teacher.outputs = ARRAYS
    config.student.targets = 'auto'
  else:
    config.teacher.source = ARRAYS
  settings.apply(config, dict(changes or {}))
  imported.record(config)
  parts = build.parts(config)
  checks.check(config, parts)
  teacher.adopt(config, members)
  if isinstance(members, given.Functions) and parts.perturbation:
    given.check_gradients(members, dataset, parts.perturbation)
  checks.settle_targets(config, parts, streams=False)
  checks.check_fits(config, parts, dataset.family)
  with tempfile.TemporaryDirectory() as temporary:
    place = pathlib.Path(folder or temporary)
    plan = build.plan(config, parts, dataset, dataset, place, members)
    with writers.Writer(place, quiet=quiet) as writer:
      distilled = distillation.distil(plan, teacher.obtain(plan, writer), writer)
  return export.model(plan, distilled)


def _dataset(ensemble, x, y, valid: float, seed: int) -> data.Dataset:
  """Return the data set of the arrays, with a share of them for validation."""
  if not 0 <= valid < 1:
    raise ValueError(f'valid={valid} must be a share of the examples, in [0, 1)')
  if y is None:
    return data.from_arrays(x, None, seed=seed, classes=_width(ensemble, x))
  count = min(round(valid * len(x)), len(x) - 1)
  return data.from_arrays(x, y, valid=max(count, 1) if valid else 0, seed=seed)


def _width(ensemble, x) -> int:
  """Return the number of outputs of an ensemble, which is the number of classes."""
  if _is_array(ensemble):
    return np.shape(ensemble)[-1]
  raise ValueError('y is None: give the outputs [N, M, O] of the ensemble as an array, or pass y')


def _is_array(ensemble) -> bool:
  return hasattr(ensemble, 'shape') and hasattr(ensemble, 'dtype')


def _members(ensemble, dataset) -> 'given.Outputs | given.Functions':
  if _is_array(ensemble):
    return given.from_arrays({'train': np.asarray(ensemble)}, dataset, ARRAYS)
  return given.from_functions(ensemble, dataset, 'the ensemble')


def _config(method: str, network, network_settings, dataset, labelled: bool):
  """Return the configuration of a method for these data."""
  config, classes = settings.default(), FAMILIES[dataset.family].has_classes
  task = 'classification' if classes else 'regression'
  config.student.optimizer.update(name='adam', rate=1e-3, decay=0.0, clip=1.0)
  recipes.apply_method(config, method, task)
  if task not in recipes.METHODS[method].tasks:
    raise ValueError(f'method {method!r} is not for {task}: `ensdistill list` shows those that are')
  default = 'mlp' if len(dataset.shape) == 1 else 'resnet'
  network = plugins.network(network or default, f'network={network!r}')
  layer: dict[str, Any] = {'network.name': network}
  layer |= {f'network.{name}': value for name, value in (network_settings or {}).items()}
  known = settings.default().network.keys()
  for name in network_settings or {}:
    if name not in known:
      raise names.unknown('setting of a network', name, known)
  settings.apply(config, layer)
  if not labelled or dataset.valid_is_empty:
    config.student.keep = 'last'
    config.teacher.keep = 'last'
  if not labelled and config.objective.label_weight:
    raise ValueError(
      f'method {method!r} also learns from labels: pass y, or changes='
      "{'objective.label_weight': 0.0}"
    )
  return config
