"""All metrics of one model's predictions, by the names of results.json."""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from ensdistill import data, metrics
from ensdistill.data import shift


def sets(dataset, predictions: dict, *, ensemble=None, curve=None) -> dict[str, float]:
  """Return the metrics of {'valid', 'test', 'ood/<set>', ...: predictive}.

  `ensemble` has the same keys; with it, the agreement with the ensemble is added. `curve` is the
  calibrated NLL of the ensemble by its size.
  """
  family, theirs = metrics.of(dataset.family), ensemble or {}
  found = family.test(
    predictions['test'],
    dataset.test.y,
    valid=predictions.get('valid'),
    valid_labels=None if dataset.valid_is_empty else dataset.valid.y,
    ensemble=theirs.get('test'),
    ensemble_cnll=curve,
  )
  for name, predictive in _ood(predictions):
    scores = family.ood(predictions['test'], predictive, ensemble=theirs.get(name))
    found |= {f'{name}/{key}': value for key, value in scores.items()}
  return found


def influences(dataset, predictions: dict, temperature: float = 1.0) -> dict[str, tuple]:
  """Return {metric: influence of the examples} for the metrics of `sets`; see metrics.influence."""
  family = metrics.of(dataset.family)
  found = family.influences(predictions['test'], dataset.test.y, temperature=temperature)
  for name, predictive in _ood(predictions):
    scores = family.ood_influences(predictions['test'], predictive)
    found |= {f'{name}/{key}': value for key, value in scores.items()}
  return found


def _ood(predictions):
  """Return the names and predictions of the out-of-distribution sets."""
  return [(name, p) for name, p in predictions.items() if name.startswith('ood/')]


def shifted(kind: str, severity: int, predictive, y) -> dict[str, float]:
  """Return {'shift/<kind>/<severity>/acc': ..., ...} of one shifted set."""
  found = metrics.of(predictive.family).shifted(predictive, y)
  return {f'shift/{kind}/{severity}/{key}': value for key, value in found.items()}


def shifted_influences(kind: str, severity: int, predictive, y) -> dict[str, tuple]:
  """Return {metric: influence of the examples} for the metrics of `shifted`."""
  family = metrics.of(predictive.family)
  found = family.influences(predictive, y)
  return {f'shift/{kind}/{severity}/{key}': found[key] for key in family.shift_metrics}


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
