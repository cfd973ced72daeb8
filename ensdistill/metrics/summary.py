"""All metrics of one model by the names of results.json, from its predictive distributions.

There are two steps, so that a set of any size streams through bounded memory. `examples` reduces a
batch to a few numbers an example. `classification_metrics` and `ood_metrics` take these numbers,
`join`ed. `classification` does both. An undefined metric is NaN.
"""

import math

import jax
import numpy as np

from ensdistill import predictive
from ensdistill.metrics import calibration, diversity, scoring
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
  aupr,
  auroc,
  fpr95,
  prr,
  rank_correlation,
  rejection_ratio,
)

# Scores of uncertainty: higher is less certain. `confidence` is used with a minus sign.
SCORES = ('confidence', 'total', 'data', 'knowledge', 'epkl')
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # tolerance of confidences at the edges of bins


def examples(p, labels_B=None, *, temperature=1.0, threshold=math.inf, ensemble=None):
  """Return a dict of [B] arrays of a Mixture or Dirichlet, with or without labels.

  temperature and threshold (of conformal sets) come from validation data. `ensemble` is the
  ensemble's predictive for the same inputs; with it, the numbers for agreement are added.
  """
  log_probs_BK, out = log_probs_and_uncertainties(p)
  out['confidence'] = np.exp(log_probs_BK.max(-1))
  if ensemble is not None:
    theirs_BK, theirs = log_probs_and_uncertainties(ensemble)
    out['agreement_kl'] = diversity.divergences(log_probs_BK, theirs_BK)
    out['ensemble_knowledge'] = theirs['knowledge']
  if labels_B is not None:
    log_probs_BK, labels_B = check(log_probs_BK, labels_B)
    out |= _scored(log_probs_BK, labels_B, temperature, threshold)
    if isinstance(p, predictive.Mixture):
      out['member_correct'] = np.asarray(p.log_probs_BMK).argmax(-1) == labels_B[:, None]
  return out


def _scored(log_probs_BK, labels_B, temperature, threshold):
  soft_BK = calibration.apply_temperature(log_probs_BK, temperature)
  score_BK = -log_probs_BK
  nll_B = scoring.label_log_probs(score_BK, labels_B)
  return {
    'correct': log_probs_BK.argmax(-1) == labels_B,
    'nll': nll_B,
    'bs': scoring.squared_errors(log_probs_BK, labels_B),
    'cnll': -scoring.label_log_probs(soft_BK, labels_B),
    'cbs': scoring.squared_errors(soft_BK, labels_B),
    'cconfidence': np.exp(soft_BK.max(-1)),
    'conformal_size': (score_BK <= threshold).sum(-1),
    'conformal_coverage': nll_B <= threshold,
  }


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


def score(examples, name):
  """Return one of SCORES, with the sign that makes it grow with uncertainty."""
  return -examples['confidence'] if name == 'confidence' else examples[name]


def detection(examples_in, examples_out):
  """Return {auroc,aupr,fpr95}_<score> of telling `out` from `in`, for scores that both have."""
  metrics = {}
  for name in SCORES:
    if name in examples_in and name in examples_out:
      pair = score(examples_in, name), score(examples_out, name)
      for kind, function in (('auroc', auroc), ('aupr', aupr), ('fpr95', fpr95)):
        metrics[f'{kind}_{name}'] = function(*pair)
  return metrics


def _agreement(examples):
  """Return the rank correlation of a student's knowledge with its ensemble's, if there is one."""
  if 'ensemble_knowledge' not in examples:
    return {}
  theirs = examples['ensemble_knowledge']
  return {'agreement_knowledge': rank_correlation(examples['knowledge'], theirs)}


def _means(examples, *names):
  return {name: float(np.mean(examples[name])) for name in names if name in examples}


def classification_metrics(examples, *, temperature=1.0, ensemble_cnll=None):
  """Return the metrics of a labelled set from its examples, by the names of results.json."""
  correct_B = examples['correct']
  metrics = {'acc': float(correct_B.mean()), 'temperature': float(temperature)}
  metrics |= _means(
    examples,
    *('nll', 'bs', 'cnll', 'cbs', 'total', 'data', 'knowledge', 'epkl', 'pairwise_kl'),
    *('disagreement', 'agreement_kl', 'conformal_size', 'conformal_coverage'),
  )

  def binned_error(key, bins=15):
    return calibration.table_error(calibration.bin_table(examples[key], correct_B, bins, ROUNDING))

  metrics['ece'] = binned_error('confidence')
  metrics['cece'] = binned_error('cconfidence')
  metrics['aece'] = calibration.adaptive_error(examples['confidence'], correct_B)
  metrics['caece'] = calibration.adaptive_error(examples['cconfidence'], correct_B)
  for bins in (10, 100):  # what other papers print
    metrics[f'ece_{bins}'] = binned_error('confidence', bins)
  if 'member_correct' in examples:
    accuracy_M = examples['member_correct'].mean(0)
    metrics['member_acc'] = float(accuracy_M.mean())
    metrics['member_acc_min'] = float(accuracy_M.min())
    metrics['member_acc_max'] = float(accuracy_M.max())
  metrics['prr'] = prr(score(examples, 'confidence'), correct_B)
  metrics |= {f'prr_{name}': prr(score(examples, name), correct_B) for name in SCORES[1:]}
  right, wrong = ({k: v[mask] for k, v in examples.items()} for mask in (correct_B, ~correct_B))
  for name, value in detection(right, wrong).items():
    metrics[f'misclassification/{name}'] = value
  if ensemble_cnll is not None:
    metrics['dee'] = diversity.dee(ensemble_cnll, metrics['cnll'])
  return metrics | _agreement(examples)


def classification(
  p,
  labels_B,
  *,
  valid_predictive,
  valid_labels,
  ensemble=None,
  ensemble_cnll=None,
  coverage=0.9,
):
  """Return all metrics of one classifier on one labelled set: {'acc': ..., 'nll': ..., ...}.

  p is a predictive.Mixture or Dirichlet. The temperature and the conformal threshold are fitted on
  the validation set. `ensemble` is the ensemble's predictive for the same inputs; with it, the
  agreement is added. `ensemble_cnll` is the calibrated NLL of the ensemble's first 1..M members;
  with it, the deep-ensemble equivalent is added.
  """
  valid_log_probs_BK = np.concatenate([log_probs(q) for (q,) in _blocks(valid_predictive)])
  temperature = calibration.fit_temperature(valid_log_probs_BK, valid_labels)
  threshold = calibration.conformal_threshold(valid_log_probs_BK, valid_labels, coverage)
  of_test = all_examples(p, labels_B, ensemble, temperature=temperature, threshold=threshold)
  return classification_metrics(of_test, temperature=temperature, ensemble_cnll=ensemble_cnll)


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


def gap_closed(member, ensemble, student, *, member_se=0.0, test_se=0.0):
  """Return (member - student) / (member - ensemble): 0 is one network, 1 the ensemble.

  The formula fits any metric. None is returned where a value is missing or not finite, and where
  the gap between member and ensemble is zero or less than two of its standard errors. This standard
  error has two parts: the differences between members, and the finite size of the test set.
  """
  values = member, ensemble, student
  if any(value is None or not math.isfinite(value) for value in values):
    return None
  gap = member - ensemble
  if gap == 0 or abs(gap) < 2 * math.hypot(member_se, test_se):
    return None
  return (member - student) / gap


def gap_closed_se(member, ensemble, student_se):
  """Return the standard error of gap_closed over the student's seeds, for a fixed ensemble."""
  return student_se / abs(member - ensemble)
