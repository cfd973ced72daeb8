"""Everything that one model's predictions say, by the names of results.json."""

import numpy as np

from ensdistill import metrics
from ensdistill.data import shift
from ensdistill.metrics import influence


def sets(dataset, predictions: dict, *, ensemble=None, curve=None) -> dict[str, float]:
  """Metrics of {'valid', 'test', 'ood/<set>', ...: predictive}.

  `ensemble` has the same keys, for agreement with it; `curve` is its calibrated NLL by size.
  """
  theirs = (ensemble or {}).get
  if dataset.family == 'categorical':
    found = metrics.summary.classification(
      predictions['test'],
      dataset.test.y,
      valid_predictive=predictions['valid'],
      valid_labels=dataset.valid.y,
      ensemble=theirs('test'),
      ensemble_cnll=curve,
    )
  else:
    found = metrics.summary.regression(predictions['test'], dataset.test.y, ensemble=theirs('test'))
  for name, predictive in predictions.items():
    if name.startswith('ood/'):
      scores = metrics.summary.ood(predictions['test'], predictive, ensemble_out=theirs(name))
      found |= {f'{name}/{key}': value for key, value in scores.items()}
  return found


def influences(dataset, predictions: dict, temperature: float = 1.0) -> dict[str, tuple]:
  """{metric: influence of the examples on it} of what `sets` measures; see metrics.influence."""
  test, y = predictions['test'], dataset.test.y
  if dataset.family == 'categorical':
    found = influence.classification(test, y, temperature=temperature)
  else:
    found = influence.regressed(test, y)
  for name, predictive in predictions.items():
    if name.startswith('ood/'):
      scores = influence.ood(test, predictive)
      found |= {f'{name}/{key}': value for key, value in scores.items()}
  return found


def shifted_influences(kind: str, severity: int, predictive, y) -> dict[str, tuple]:
  """The same of what `shifted` measures."""
  of = influence.classification if hasattr(predictive, 'log_probs') else influence.regressed
  found = of(predictive, y)
  keys = [key for key in ('acc', 'rmse', 'nll', 'crps', 'ece', 'knowledge') if key in found]
  return {f'shift/{kind}/{severity}/{key}': found[key] for key in keys}


def shifted(kind: str, severity: int, predictive, y) -> dict[str, float]:
  """{'shift/<kind>/<severity>/acc': ..., ...} of one shifted set."""
  if hasattr(predictive, 'log_probs'):
    found = metrics.summary.examples(predictive, y)
    table = metrics.calibration.bin_table(
      found['confidence'], found['correct'], rounding=metrics.summary.ROUNDING
    )
    found = {
      'acc': found['correct'].mean(),
      'nll': found['nll'].mean(),
      'ece': metrics.calibration.table_error(table),
      'knowledge': found['knowledge'].mean(),
    }
  else:
    found = metrics.summary.regression(predictive, y)
    found = {key: found[key] for key in ('rmse', 'nll', 'crps', 'knowledge')}
  return {f'shift/{kind}/{severity}/{key}': float(value) for key, value in found.items()}


def with_means(found: dict, mean=lambda values: float(np.mean(values))) -> dict:
  """Adds 'shift/mean/<severity>/<metric>', over the kinds that have all severities."""
  kinds: dict[str, dict] = {}
  for name, value in found.items():
    _, kind, severity, key = name.split('/')
    kinds.setdefault(kind, {})[int(severity), key] = value
  whole = [v for v in kinds.values() if {s for s, _ in v} == set(shift.SEVERITIES)]
  means = {
    f'shift/mean/{severity}/{key}': mean([v[severity, key] for v in whole])
    for severity, key in (whole[0] if whole else ())
  }
  return found | means
