"""The standard error of the difference between two models' metrics, from the test examples.

To first order, a metric is the mean of the examples' influences on it. Two models see the same
examples. The differences of their influences, example by example, therefore give the standard error
of the difference of their metrics (of an AUROC: DeLong et al., 1988). An influence is a tuple of
arrays [B], one for each set of examples that were drawn independently. Constants are left out.
"""

import math

import numpy as np

from ensdistill.metrics import calibration, summary
from ensdistill.metrics.regression import at_targets, squared_errors, uncertainties
from ensdistill.metrics.uncertainty import tied_mean

_MEANS = (
  *('nll', 'bs', 'cnll', 'cbs', 'total', 'data', 'knowledge', 'epkl', 'pairwise_kl'),
  'disagreement',
)


def mean(influences: list[dict]) -> dict[str, tuple]:
  """Return the influences on the mean metric of several models, for metrics that all have."""
  keys = [key for key in influences[0] if all(key in found for found in influences)]
  return {key: average([found[key] for found in influences]) for key in keys}


def average(influences: list[tuple]) -> tuple:
  """Return the influence on the mean of several metrics, over the smallest number of examples."""
  return tuple(
    np.mean([array[: min(map(len, arrays))] for array in arrays], 0) for arrays in zip(*influences)
  )


def error(ours: tuple, theirs: tuple | None = None) -> float:
  """Return the standard error of a metric, or of its difference between two models."""
  none = tuple(np.zeros(len(array)) for array in ours)
  pairs = list(zip(ours, none if theirs is None else theirs, strict=True))
  if any(len(a) < 2 for a, _ in pairs):
    return math.inf  # one example has no variance
  return math.sqrt(sum((a - b).var(ddof=1) / len(a) for a, b in pairs))


def classification(found) -> dict[str, tuple]:
  """Return influences on metrics of summary.classification, from the examples of a labelled set.

  These are the means, the calibration errors, and the detection of errors. Examples without a
  temperature have no influence on calibrated metrics.
  """
  correct_B = found['correct']
  influences = {'acc': correct_B.astype(np.float64)}
  influences |= {name: found[name] for name in _MEANS if name in found}
  influences['ece'] = _calibration(found['confidence'], correct_B)
  if 'cconfidence' in found:
    influences['cece'] = _calibration(found['cconfidence'], correct_B)
  if 'member_correct' in found:
    influences['member_acc'] = found['member_correct'].mean(-1)
  if correct_B.all() or not correct_B.any():
    return {key: (value_B,) for key, value_B in influences.items()}
  for name in summary.SCORES:
    if name in found:
      auroc_B = _detection(summary.score(found, name), correct_B)
      influences[f'misclassification/auroc_{name}'] = auroc_B
      influences['prr' if name == 'confidence' else f'prr_{name}'] = 200 * auroc_B  # 2 AUROC - 1
  influences |= _selective(found['total'], correct_B)
  return {key: (value_B,) for key, value_B in influences.items()}


def ood(examples_in, examples_out) -> dict[str, tuple]:
  """Return influences on metrics of summary.ood_metrics: AUROCs and uncertainties."""
  influences = {}
  for name in summary.SCORES:
    if name in examples_in and name in examples_out:
      pair = summary.score(examples_in, name), summary.score(examples_out, name)
      influences[f'auroc_{name}'] = _placements(*pair)
  return influences | {name: (examples_out[name],) for name in ('total', 'data', 'knowledge')}


def regression(p, y_BD) -> dict[str, tuple]:
  """Return influences on metrics of summary.regression: those that are means, and the RMSE."""
  error_B = squared_errors(p, y_BD)
  influences = {
    'rmse': error_B / (2 * math.sqrt(error_B.mean()) or 1.0),
    'nll': -at_targets('log_prob', p, y_BD),
    'crps': at_targets('crps', p, y_BD).mean(-1),
    **uncertainties(p),
  }
  return {key: (np.asarray(value_B),) for key, value_B in influences.items()}


def _calibration(confidence_B, correct_B):
  """Return influences on the calibration error: an example's gap, times the sign of its bin's."""
  index_B = calibration.bin_index(confidence_B, rounding=summary.ROUNDING)
  gap_B = correct_B - confidence_B
  return np.sign(np.bincount(index_B, gap_B))[index_B] * gap_B


def _selective(uncertainty_B, correct_B):
  """Return influences on aurc and augrc.

  With the share F(u) of examples that are at least as certain as u, and the 0-1 error l, these are
  E[-l log F(u)] and E[l (1 - F(u))]. An example acts by its own loss, and by its place in F.
  """
  order_B = np.argsort(uncertainty_B, kind='stable')
  size, k_B = len(order_B), np.arange(1, len(order_B) + 1)
  loss_B = tied_mean(uncertainty_B, ~correct_B)[order_B]

  def unsorted(values_B):
    found_B = np.empty(size)
    found_B[order_B] = values_B
    return tied_mean(uncertainty_B, found_B)

  def from_the_end(values_B):
    return np.cumsum(values_B[::-1])[::-1]

  return {
    'aurc': ~correct_B * unsorted(from_the_end(1 / k_B)) - unsorted(from_the_end(loss_B / k_B)),
    'augrc': ~correct_B * unsorted(1 - (k_B - 1) / size) + unsorted(np.cumsum(loss_B) / size),
  }


def _placements(scores_in, scores_out):
  """Return, for each example, the share of the other set on its right side; ties count half."""
  low, high = (np.sort(scores) for scores in (scores_in, scores_out))

  def share(a, b):
    return (np.searchsorted(a, b) + np.searchsorted(a, b, 'right')) / (2 * len(a))

  return 1 - share(high, scores_in), share(low, scores_out)


def _detection(score_B, correct_B):
  """Return influences on the AUROC of errors, where the set of errors is random too."""
  placed_B, wrong_B = np.empty(len(score_B)), ~correct_B
  placed_B[correct_B], placed_B[wrong_B] = _placements(score_B[correct_B], score_B[wrong_B])
  share_B = np.where(correct_B, correct_B.mean(), wrong_B.mean())
  return (placed_B - placed_B[wrong_B].mean()) / share_B
