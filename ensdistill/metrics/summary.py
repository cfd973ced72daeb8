"""All metrics of one model by the names of results.json, from its predictive distributions.

There are two steps, so that a set of any size streams through bounded memory. `examples` reduces a
batch to a few numbers an example. `classification_metrics` and `ood_metrics` take these numbers,
`join`ed. `classification` does both. An undefined metric is NaN.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from ensdistill import predictive
from ensdistill.metrics import calibration, diversity, prediction_sets, scoring
from ensdistill.metrics.arrays import BLOCK, check
from ensdistill.metrics.entropies import log_probs, log_probs_and_uncertainties
from ensdistill.metrics.regression import (
  agreement,
  calibration_error,
  covered,
  crps,
  entropies,
  nll,
  pit,
  rmse,
  sharpness,
  squared_errors,
  uncertainties,
)
from ensdistill.metrics.uncertainty import (
  augrc,
  aupr,
  aurc,
  auroc,
  coverage_at_risk,
  fpr95,
  prr,
  rank_correlation,
  rejection_ratio,
  risk_at_coverage,
)

# Scores of uncertainty: higher is less certain. `confidence` is used with a minus sign.
SCORES = ('confidence', 'total', 'data', 'knowledge', 'epkl')
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # tolerance of confidences at the edges of bins
SET_SEED = 0  # of randomised prediction sets
# Names of prediction sets in results.json, by their kind.
_SETS = {'lac': 'conformal', 'aps': 'conformal_aps', 'raps': 'conformal_raps'}
_SET_METRICS = tuple(f'{name}_{x}' for name in _SETS.values() for x in ('size', 'coverage'))
# What is fitted on validation data: NaN without them.
CALIBRATED = 'temperature', 'cnll', 'cbs', 'cece', 'caece', *_SET_METRICS


def examples(p, labels_B=None, *, temperature=1.0, thresholds=None, uniform_B=None, ensemble=None):
  """Return a dict of [B] arrays of a Mixture or Dirichlet, with or without labels.

  temperature and thresholds ({kind: threshold} of prediction sets) come from validation data.
  Without them (None; NaN counts as None) what depends on them is left out. uniform_B is the u of
  randomised sets; see metrics.prediction_sets. `ensemble` is the ensemble's predictive for the same
  inputs; with it, the numbers for agreement are added.
  """
  log_probs_BK, out = log_probs_and_uncertainties(p)
  fitted = {'temperature': temperature, 'thresholds': thresholds, 'uniform_B': uniform_B}
  return _examples(p, log_probs_BK, out, labels_B, ensemble, **fitted)


def _examples(p, log_probs_BK, out, labels_B, ensemble, **fitted):
  """Return `examples` of p, given its log_probs_and_uncertainties."""
  out = out | {'confidence': np.exp(log_probs_BK.max(-1))}
  if ensemble is not None:
    theirs_BK, theirs = log_probs_and_uncertainties(ensemble)
    out['agreement_kl'] = diversity.divergences(log_probs_BK, theirs_BK)
    out['ensemble_knowledge'] = theirs['knowledge']
  if labels_B is not None:
    log_probs_BK, labels_B = check(log_probs_BK, labels_B)
    out |= _scored(log_probs_BK, labels_B, **fitted)
    if isinstance(p, predictive.Mixture):
      out['member_correct'] = np.asarray(p.log_probs_BMK).argmax(-1) == labels_B[:, None]
  return out


def _scored(log_probs_BK, labels_B, *, temperature=1.0, thresholds=None, uniform_B=None):
  found = {
    'correct': log_probs_BK.argmax(-1) == labels_B,
    'nll': -scoring.label_log_probs(log_probs_BK, labels_B),
    'bs': scoring.squared_errors(log_probs_BK, labels_B),
  }
  if temperature is not None and not math.isnan(temperature):
    soft_BK = calibration.apply_temperature(log_probs_BK, temperature)
    found['cnll'] = -scoring.label_log_probs(soft_BK, labels_B)
    found['cbs'] = scoring.squared_errors(soft_BK, labels_B)
    found['cconfidence'] = np.exp(soft_BK.max(-1))
  if thresholds is not None:
    u_B = np.ones(len(labels_B)) if uniform_B is None else uniform_B
    scores = prediction_sets.scores(log_probs_BK, labels_B, u_B)
    for kind, (score_BK, own_B) in scores.items():
      found[f'{_SETS[kind]}_size'] = (score_BK <= thresholds[kind]).sum(-1)
      found[f'{_SETS[kind]}_coverage'] = own_B <= thresholds[kind]
  return found


def join(parts):
  """Return the examples of several batches as those of one set."""
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _blocks(p, *others):
  """Yield p and the other trees (None stays None) on the host, in blocks of bounded memory."""
  trees = jax.tree.map(np.asarray, (p, *others))
  leaf = jax.tree.leaves(trees)[0]
  if not len(leaf):
    raise ValueError('no examples: a metric needs at least one')
  step = max(1, BLOCK // leaf[0].size)
  for i in range(0, len(leaf), step):
    yield jax.tree.map(lambda a, i=i: a[i : i + step], trees)


def all_examples(p, labels_B=None, ensemble=None, **settings):
  """Return `examples` of a set of any size."""
  blocks = _blocks(p, labels_B, ensemble)
  return join([examples(q, y, ensemble=theirs, **settings) for q, y, theirs in blocks])


def score(per_example, name):
  """Return one of SCORES, with the sign that makes it grow with uncertainty."""
  return -per_example['confidence'] if name == 'confidence' else per_example[name]


def detection(examples_in, examples_out):
  """Return {auroc,aupr,fpr95}_<score> of telling `out` from `in`, for scores that both have."""
  metrics = {}
  for name in SCORES:
    if name in examples_in and name in examples_out:
      pair = score(examples_in, name), score(examples_out, name)
      for kind, function in (('auroc', auroc), ('aupr', aupr), ('fpr95', fpr95)):
        metrics[f'{kind}_{name}'] = function(*pair)
  return metrics


def _agreement(per_example):
  """Return the rank correlation of a student's knowledge with its ensemble's, if there is one."""
  if 'ensemble_knowledge' not in per_example:
    return {}
  theirs = per_example['ensemble_knowledge']
  return {'agreement_knowledge': rank_correlation(per_example['knowledge'], theirs)}


def _means(per_example, *names):
  return {name: float(np.mean(per_example[name])) for name in names if name in per_example}


def classification_metrics(per_example, *, temperature=1.0, ensemble_cnll=None):
  """Return the metrics of a labelled set from its `examples`, by the names of results.json.

  `prr` and `prr_<score>` use the uncertainty in their name (`prr`: confidence). `aurc`, `augrc`,
  `coverage_at_5_risk` (the largest coverage with an error of at most 5 %) and `risk_at_80_coverage`
  use the total uncertainty and the 0-1 error.
  """
  correct_B = per_example['correct']
  metrics = {'acc': float(correct_B.mean())}
  if 'cnll' in per_example:
    metrics['temperature'] = float(temperature)
  metrics |= _means(
    per_example,
    *('nll', 'bs', 'cnll', 'cbs', 'total', 'data', 'knowledge', 'epkl', 'pairwise_kl'),
    *('disagreement', 'agreement_kl', *_SET_METRICS),
  )
  metrics |= _calibration_errors(per_example, correct_B)
  if 'member_correct' in per_example:
    accuracy_M = per_example['member_correct'].mean(0)
    metrics['member_acc'] = float(accuracy_M.mean())
    metrics['member_acc_min'] = float(accuracy_M.min())
    metrics['member_acc_max'] = float(accuracy_M.max())
  metrics |= _selective(per_example, correct_B)
  if ensemble_cnll is not None:
    metrics['dee'] = diversity.dee(ensemble_cnll, metrics['cnll'])
  return metrics | _agreement(per_example)


def _calibration_errors(per_example, correct_B):
  """Return the calibration errors of confidences, with and without the temperature."""

  def binned_error(key, bins=15):
    table = calibration.bin_table(per_example[key], correct_B, bins, ROUNDING)
    return calibration.table_error(table)

  found = {'ece': binned_error('confidence')}
  found['aece'] = calibration.adaptive_error(per_example['confidence'], correct_B)
  if 'cconfidence' in per_example:
    found['cece'] = binned_error('cconfidence')
    found['caece'] = calibration.adaptive_error(per_example['cconfidence'], correct_B)
  for bins in (10, 100):  # what other papers print
    found[f'ece_{bins}'] = binned_error('confidence', bins)
  return found | {'smooth_ece': calibration.smooth_error(per_example['confidence'], correct_B)}


def _selective(per_example, correct_B):
  """Return how well uncertainties find the errors."""
  found = {'prr': prr(score(per_example, 'confidence'), correct_B)}
  found |= {f'prr_{name}': prr(score(per_example, name), correct_B) for name in SCORES[1:]}
  total_B = per_example['total']
  found['aurc'] = aurc(total_B, ~correct_B)
  found['augrc'] = augrc(total_B, ~correct_B)
  found['coverage_at_5_risk'] = coverage_at_risk(total_B, correct_B, 0.05)
  found['risk_at_80_coverage'] = risk_at_coverage(total_B, correct_B, 0.8)
  right, wrong = ({k: v[mask] for k, v in per_example.items()} for mask in (correct_B, ~correct_B))
  for name, value in detection(right, wrong).items():
    found[f'misclassification/{name}'] = value
  return found


class Scored(NamedTuple):
  """A classifier's predictions on one set, example by example: what metrics are made of."""

  examples: dict[str, np.ndarray]
  temperature: float | None = None  # None: without validation data
  classwise_ece: float = math.nan  # NaN: without labels


def scored(
  p, labels_B=None, *, valid_predictive=None, valid_labels=None, ensemble=None, coverage=0.9
) -> Scored:
  """Return what the metrics of one classifier on one set are made of; see `classification`."""
  if labels_B is None:
    return Scored(all_examples(p, ensemble=ensemble))
  fitted, uniform_B = _fit(valid_predictive, valid_labels, coverage), None
  if valid_predictive is not None:
    uniform_B = prediction_sets.uniforms(len(labels_B), SET_SEED, 'test')
  parts, gaps = [], 0.0
  for q, y, theirs, u in _blocks(p, labels_B, ensemble, uniform_B):
    log_probs_BK, out = log_probs_and_uncertainties(q)
    parts.append(_examples(q, log_probs_BK, out, y, theirs, uniform_B=u, **fitted))
    gaps += calibration.class_gaps(np.exp(log_probs_BK), check(log_probs_BK, y)[1], 15, ROUNDING)
  return Scored(join(parts), fitted['temperature'], calibration.class_error(gaps, len(labels_B)))


def scored_metrics(found: Scored, ensemble_cnll=None) -> dict[str, float]:
  """Return the metrics of `classification`."""
  missing = {}
  if found.temperature is None:
    names = (*CALIBRATED, *(() if ensemble_cnll is None else ('dee',)))
    missing, ensemble_cnll = dict.fromkeys(names, math.nan), None
  metrics = classification_metrics(
    found.examples, temperature=found.temperature, ensemble_cnll=ensemble_cnll
  )
  return metrics | {'classwise_ece': found.classwise_ece} | missing


def classification(p, labels_B, *, ensemble_cnll=None, **settings):
  """Return all metrics of one classifier on one labelled set: {'acc': ..., 'nll': ..., ...}.

  p is a predictive.Mixture or Dirichlet. The temperature and the thresholds of prediction sets are
  fitted on the validation set (valid_predictive, valid_labels). Without one, CALIBRATED and `dee`
  are NaN. `ensemble` is the ensemble's predictive for the same inputs; with it, the agreement is
  added. `ensemble_cnll` is the calibrated NLL of ensembles of 1..M members; with it, the
  deep-ensemble equivalent is added.

  `conformal_size` and `conformal_coverage` are those of LAC sets. `conformal_aps_*` and
  `conformal_raps_*` are those of APS and RAPS, randomised by SET_SEED. All aim at `coverage`.
  """
  return scored_metrics(scored(p, labels_B, **settings), ensemble_cnll)


def _fit(p, labels_B, coverage):
  """Return the temperature and the thresholds of prediction sets for validation data, or None."""
  if p is None:
    return {'temperature': None, 'thresholds': None}
  log_probs_BK = np.concatenate([log_probs(q) for (q,) in _blocks(p)])
  scores = prediction_sets.label_scores(log_probs_BK, labels_B, seed=SET_SEED)
  return {
    'temperature': calibration.usable_temperature(log_probs_BK, labels_B),
    'thresholds': {k: prediction_sets.threshold(v, coverage) for k, v in scores.items()},
  }


def ood_metrics(examples_in, examples_out):
  """Return the detection of out-of-distribution inputs and the mean uncertainties of them."""
  metrics = detection(examples_in, examples_out)
  metrics |= _means(examples_out, 'total', 'data', 'knowledge', 'agreement_kl')
  return metrics | _agreement(examples_out)


def regression(p, y_BD, *, ensemble=None):
  """Return all metrics of one regressor on one set: {'rmse': ..., 'nll': ..., 'crps': ..., ...}.

  p is a predictive.GaussianMixture or NormalWishart. p and y are in the targets' own units (see
  `in_units` of the distributions). total, data and knowledge are variances, summed over targets.
  entropy_total, entropy_data and entropy_knowledge are entropies in nats; the last is the mutual
  information.
  """
  variances = uncertainties(p)
  nats = dict(zip(variances, entropies(p), strict=True))
  pit_BD, loss_B = pit(p, y_BD), squared_errors(p, y_BD)
  metrics = {
    'rmse': rmse(p, y_BD),
    'nll': nll(p, y_BD),
    'crps': crps(p, y_BD),
    'calibration_error': calibration_error(pit_BD),
    **{f'coverage_{n}': covered(pit_BD, n / 100) for n in (50, 90, 95)},
    **{f'sharpness_{n}': sharpness(p, n / 100) for n in (50, 90, 95)},
    **{name: float(value_B.mean()) for name, value_B in variances.items()},
    **{f'entropy_{name}': float(value_B.mean()) for name, value_B in nats.items()},
    **{f'prr_{name}': rejection_ratio(value_B, loss_B) for name, value_B in variances.items()},
  }
  metrics['prr'] = metrics['prr_total']
  if ensemble is not None:
    metrics['agreement_kl'], metrics['agreement_knowledge'] = agreement(p, ensemble)
  return metrics
