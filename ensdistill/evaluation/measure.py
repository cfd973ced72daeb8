"""All metrics of one model's predictions, by the names of results.json."""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from ensdistill import data, metrics
from ensdistill.data import shift


def scored(dataset, predictions: dict, ensemble: dict | None = None) -> dict[str, Any]:
  """Return {set: what its metrics are made of} for {'test', 'ood/<set>', ...: predictive}.

  `ensemble` has the same keys; with it, the agreement with the ensemble is measured.
  """
  family, theirs = metrics.of(dataset.family), ensemble or {}
  labels = None if dataset.valid_is_empty else dataset.valid.y
  validation = {'valid': predictions.get('valid'), 'valid_labels': labels}
  test = predictions['test'], dataset.test.y
  found = {'test': family.scored(*test, ensemble=theirs.get('test'), **validation)}
  for name in _ood(predictions):
    found[name] = family.scored(predictions[name], ensemble=theirs.get(name))
  return found


def scores(dataset, found: dict[str, Any], curve=None) -> dict[str, float]:
  """Return the metrics of scored sets.

  curve: the calibrated NLL of the ensemble by its size; with it, `dee` is added.
  """
  family = metrics.of(dataset.family)
  values = family.test(found['test'], ensemble_cnll=curve)
  for name in _ood(found):
    own = family.ood(found['test'], found[name])
    values |= {f'{name}/{key}': value for key, value in own.items()}
  return values


def sets(dataset, predictions: dict, *, ensemble=None, curve=None) -> dict[str, float]:
  """Return the metrics of predictions: the `scores` of what is `scored`."""
  return scores(dataset, scored(dataset, predictions, ensemble), curve)


def influences(dataset, found: dict[str, Any]) -> dict[str, tuple]:
  """Return {metric: influence of the examples} for metrics of `scores`; see metrics.influence."""
  family = metrics.of(dataset.family)
  values = family.influences(found['test'])
  for name in _ood(found):
    own = family.ood_influences(found['test'], found[name])
    values |= {f'{name}/{key}': value for key, value in own.items()}
  return values


def _ood(found) -> list[str]:
  """Return the names of the out-of-distribution sets."""
  return [name for name in found if name.startswith('ood/')]


def shifted(kind: str, severity: int, family, found) -> dict[str, float]:
  """Return {'shift/<kind>/<severity>/acc': ..., ...} of one shifted set, scored by its family."""
  values = family.shifted(found)
  return {f'shift/{kind}/{severity}/{key}': value for key, value in values.items()}


def shifted_influences(kind: str, severity: int, family, found) -> dict[str, tuple]:
  """Return {metric: influence of the examples} for the metrics of `shifted`."""
  own = family.influences(found)
  return {f'shift/{kind}/{severity}/{key}': own[key] for key in family.shift_metrics}


def training(dataset, predict: Callable, batch: int) -> dict[Any, dict[int, dict[str, float]]]:
  """Return {row: {repeat: {'train/acc': ..., ...}}} on the clean training inputs.

  predict(x, 'train', start) returns {row: predictive of each repeat} of a block. Every block is
  reduced to sums, so a set of any size needs the memory of one block.
  """
  family, (x, y) = metrics.of(dataset.family), dataset.train
  sums: dict[Any, list] = collections.defaultdict(list)
  for number, block in enumerate(data.blocks(x, batch)):
    labels = y[number * batch :][: len(block)]
    for row, repeats in predict(block, 'train', number * batch).items():
      sums[row].append([family.sums(p, labels) for p in repeats])
  return {
    row: {i: _trained(family, own, len(x)) for i, own in enumerate(zip(*found))}
    for row, found in sums.items()
  }


def _trained(family, blocks, size: int) -> dict[str, float]:
  """Return the metrics of one repeat from the sums of all blocks."""
  sums = {name: sum(block[name] for block in blocks) for name in blocks[0]}
  return {f'train/{name}': value for name, value in family.from_sums(sums, size).items()}


def _mean(values) -> float:
  return float(np.mean(values))


def with_means(found: dict, mean: Callable[[list], Any] = _mean) -> dict:
  """Add 'shift/mean/<severity>/<metric>', the mean over the kinds that have all severities."""
  kinds: dict[str, dict] = {}
  for name, value in found.items():
    _, kind, severity, key = name.split('/')
    kinds.setdefault(kind, {})[int(severity), key] = value
  complete = [v for v in kinds.values() if {s for s, _ in v} == set(shift.SEVERITIES)]
  means = {
    f'shift/mean/{severity}/{key}': mean([v[severity, key] for v in complete])
    for severity, key in (complete[0] if complete else ())
  }
  return found | means
