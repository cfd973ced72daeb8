"""How far the size of a test set leaves the difference between two models open.

A metric is, to first order, a mean over examples of their influence on it. Two models see the same
examples, so that the differences of their influences, example by example, give the standard error
of the difference of their metrics (of an AUROC: DeLong et al., 1988). An influence is a tuple of
arrays [B], one for each set of examples that were drawn independently; constants are left out.
"""

import math

import numpy as np

from ensdistill.metrics import calibration, regression, summary

_MEANS = (
  *('nll', 'bs', 'cnll', 'cbs', 'total', 'data', 'knowledge', 'epkl', 'pairwise_kl'),
  'disagreement',
)


def mean(influences: list[dict]) -> dict[str, tuple]:
  """Of the mean metric of several models, such as members; of metrics that all of them have."""
  keys = set(influences[0]).intersection(*influences)
  return {key: average([found[key] for found in influences]) for key in keys}


def average(influences: list[tuple]) -> tuple:
  """Of the mean of several metrics over as many examples each; of fewer, where some have fewer."""
  return tuple(
    np.mean([array[: min(map(len, arrays))] for array in arrays], 0) for arrays in zip(*influences)
  )


def error(ours: tuple, theirs: tuple) -> float:
  """Standard error of the difference between two models' metric, by the examples' number."""
  pairs = list(zip(ours, theirs, strict=True))
  if any(len(a) < 2 for a, _ in pairs):
    return math.inf  # one example tells nothing
  return math.sqrt(sum((a - b).var(ddof=1) / len(a) for a, b in pairs))


def classification(p, labels_B, *, temperature=1.0) -> dict[str, tuple]:
  """Of the metrics of summary.classification: means, calibration errors, detection of errors."""
  found = summary.all_examples(p, labels_B, temperature=temperature)
  correct_B = found['correct']
  influences = {'acc': correct_B.astype(np.float64)}
  influences |= {name: found[name] for name in _MEANS if name in found}
  influences['ece'] = _calibration(found['confidence'], correct_B)
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
  return {key: (value_B,) for key, value_B in influences.items()}


def ood(predictive_in, predictive_out) -> dict[str, tuple]:
  """Of the metrics of summary.ood: AUROCs, and the uncertainty of what is foreign."""
  if hasattr(predictive_in, 'log_probs'):
    inside, outside = map(summary.all_examples, (predictive_in, predictive_out))
  else:
    inside, outside = map(regression.uncertainties, (predictive_in, predictive_out))
  influences = {}
  for name in summary.SCORES:
    if name in inside and name in outside:
      pair = summary.score(inside, name), summary.score(outside, name)
      influences[f'auroc_{name}'] = _placements(*pair)
  return influences | {name: (outside[name],) for name in ('total', 'data', 'knowledge')}


def regressed(p, y_BD) -> dict[str, tuple]:
  """Of the metrics of summary.regression that are means, and of the RMSE."""
  error_B = regression.squared_errors(p, y_BD)
  influences = {
    'rmse': error_B / (2 * math.sqrt(error_B.mean()) or 1.0),
    'nll': -regression.at_targets('log_prob', p, y_BD),
    'crps': regression.at_targets('crps', p, y_BD).mean(-1),
    **regression.uncertainties(p),
  }
  return {key: (np.asarray(value_B),) for key, value_B in influences.items()}


def _calibration(confidence_B, correct_B):
  """The calibration error is the mean of what each example adds to the sign of its bin's gap."""
  index_B = calibration.bin_index(confidence_B, rounding=summary.ROUNDING)
  gap_B = correct_B - confidence_B
  return np.sign(np.bincount(index_B, gap_B))[index_B] * gap_B


def _placements(scores_in, scores_out):
  """For each example, the share of the other set on the right side of it; ties count half."""
  low, high = (np.sort(scores) for scores in (scores_in, scores_out))
  share = lambda a, b: (np.searchsorted(a, b) + np.searchsorted(a, b, 'right')) / (2 * len(a))
  return 1 - share(high, scores_in), share(low, scores_out)


def _detection(score_B, correct_B):
  """Of the AUROC of errors: which examples are errors is drawn with them."""
  placed_B, wrong_B = np.empty(len(score_B)), ~correct_B
  placed_B[correct_B], placed_B[wrong_B] = _placements(score_B[correct_B], score_B[wrong_B])
  share_B = np.where(correct_B, correct_B.mean(), wrong_B.mean())
  return (placed_B - placed_B[wrong_B].mean()) / share_B
