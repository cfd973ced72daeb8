"""All metrics of one model's predictions, by the names of results.json."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ensdistill import metrics
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
