"""All metrics of one model by the names of results.json, from its predictive distributions.

In two steps, so that a set of any size streams through bounded memory: `examples` reduces a batch
to a few numbers an example, `classification_metrics` and `ood_metrics` need no more than those
(`join`ed). `classification` and `ood` do both at once. What is not defined is NaN.
"""

import math

import jax
import numpy as np

from ensdistill import predictive
from ensdistill.metrics import calibration, diversity, scoring
from ensdistill.metrics import regression as regressors
from ensdistill.metrics.arrays import BLOCK, check
from ensdistill.metrics.entropies import log_probs, read
from ensdistill.metrics.uncertainty import (
  aupr,
  auroc,
  fpr95,
  prr,
  rank_correlation,
  rejection_ratio,
)

# Scores of uncertainty, higher is less certain. `confidence` stands for one minus it.
SCORES = ('confidence', 'total', 'data', 'knowledge', 'epkl')
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of confidences, at the edges of bins


def examples(p, labels_B=None, *, temperature=1.0, threshold=math.inf, ensemble=None):
  """Predictions of a Mixture or Dirichlet, with or without labels -> a dict of [B] arrays.

  temperature and threshold (of conformal sets) come from validation data; `ensemble` is the
  ensemble's predictive on the same inputs, to agree with.
  """
  log_probs_BK, out = read(p)
  out['confidence'] = np.exp(log_probs_BK.max(-1))
  if ensemble is not None:
    theirs_BK, theirs = read(ensemble)
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
  """The examples of several batches as those of one set."""
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _blocks(p, *others):
  """p and what goes with it (None stays None), on the host, in blocks of bounded memory."""
  trees = jax.tree.map(np.asarray, (p, *others))
  leaf = jax.tree.leaves(trees)[0]
  if not len(leaf):
    raise ValueError('no examples: a metric needs at least one')
  step = max(1, BLOCK // leaf[0].size)
  for i in range(0, len(leaf), step):
    yield jax.tree.map(lambda a, i=i: a[i : i + step], trees)


def all_examples(p, labels_B=None, ensemble=None, **settings):
  """`examples` of a set of any size."""
  blocks = _blocks(p, labels_B, ensemble)
  return join([examples(q, y, ensemble=theirs, **settings) for q, y, theirs in blocks])


def score(examples, name):
  """One of SCORES, as what grows with uncertainty."""
  return -examples['confidence'] if name == 'confidence' else examples[name]


def detection(examples_in, examples_out):
  """{auroc,aupr,fpr95}_<score> of telling `out` from `in`, for every score that both have."""
  metrics = {}
  for name in SCORES:
    if name in examples_in and name in examples_out:
      pair = score(examples_in, name), score(examples_out, name)
      for kind, function in (('auroc', auroc), ('aupr', aupr), ('fpr95', fpr95)):
        metrics[f'{kind}_{name}'] = function(*pair)
  return metrics


def _agreement(examples):
  """Of a student with its ensemble, in rank; the KL is a mean like others."""
  if 'ensemble_knowledge' not in examples:
    return {}
  theirs = examples['ensemble_knowledge']
  return {'agreement_knowledge': rank_correlation(examples['knowledge'], theirs)}


def _means(examples, *names):
  return {name: float(np.mean(examples[name])) for name in names if name in examples}


def classification_metrics(examples, *, temperature=1.0, ensemble_cnll=None):
  """Metrics of a labelled set from its examples, by the names of results.json."""
  correct_B = examples['correct']
  metrics = {'acc': float(correct_B.mean()), 'temperature': float(temperature)}
  metrics |= _means(
    examples,
    *('nll', 'bs', 'cnll', 'cbs', 'total', 'data', 'knowledge', 'epkl', 'pairwise_kl'),
    *('disagreement', 'agreement_kl', 'conformal_size', 'conformal_coverage'),
  )
  table = lambda key, bins: calibration.bin_table(examples[key], correct_B, bins, ROUNDING)
  metrics['ece'] = calibration.table_error(table('confidence', 15))
  metrics['cece'] = calibration.table_error(table('cconfidence', 15))
  metrics['aece'] = calibration.adaptive_error(examples['confidence'], correct_B)
  metrics['caece'] = calibration.adaptive_error(examples['cconfidence'], correct_B)
  for bins in (10, 100):  # what other papers print
    metrics[f'ece_{bins}'] = calibration.table_error(table('confidence', bins))
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
  """All metrics of one classifier on one labelled set -> {'acc': ..., 'nll': ..., ...}.

  p: predictive.Mixture or Dirichlet. Temperature and conformal threshold are fitted on the
  validation set; `ensemble` (its predictive on the same inputs) gives the agreement with it,
  `ensemble_cnll` (calibrated NLL of its first 1..M members) the deep-ensemble equivalent.
  """
  valid_log_probs_BK = np.concatenate([log_probs(q) for (q,) in _blocks(valid_predictive)])
  temperature = calibration.fit_temperature(valid_log_probs_BK, valid_labels)
  threshold = calibration.conformal_threshold(valid_log_probs_BK, valid_labels, coverage)
  of_test = all_examples(p, labels_B, ensemble, temperature=temperature, threshold=threshold)
  return classification_metrics(of_test, temperature=temperature, ensemble_cnll=ensemble_cnll)


def ood_metrics(examples_in, examples_out):
  """Detection of out-of-distribution inputs, and what the model says of them, from examples."""
  metrics = detection(examples_in, examples_out)
  metrics |= _means(examples_out, 'total', 'data', 'knowledge', 'agreement_kl')
  return metrics | _agreement(examples_out)


def ood(predictive_in, predictive_out, *, ensemble_out=None):
  """{'auroc_total': ..., 'auroc_knowledge': ..., 'aupr_...', 'fpr95_...', 'knowledge': ...}.

  Out is the positive class. For classifiers and regressors; `ensemble_out` (the ensemble's
  predictive on the out inputs) adds the agreement with it there.
  """
  if hasattr(predictive_in, 'log_probs'):
    return ood_metrics(
      all_examples(predictive_in), all_examples(predictive_out, ensemble=ensemble_out)
    )
  parts = [regressors.uncertainties(p) for p in (predictive_in, predictive_out)]
  if ensemble_out is not None:
    parts[1]['ensemble_knowledge'] = regressors.uncertainties(ensemble_out)['knowledge']
    parts[1]['agreement_kl'] = regressors.divergences(predictive_out, ensemble_out)
  knowledge = [regressors.entropies(p)[2] for p in (predictive_in, predictive_out)]
  return ood_metrics(*parts) | {'auroc_entropy_knowledge': auroc(*knowledge)}


def regression(p, y_BD, *, ensemble=None):
  """All metrics of one regressor on one set -> {'rmse': ..., 'nll': ..., 'crps': ..., ...}.

  p: predictive.GaussianMixture or NormalWishart, and y, in the target's own units (see `affine`
  of the distributions). total, data and knowledge are variances, summed over targets; entropy_total
  and so on the same as entropies in nats, of which knowledge is the mutual information.
  """
  uncertainties = regressors.uncertainties(p)
  entropies = dict(zip(uncertainties, regressors.entropies(p), strict=True))
  pit_BD, loss_B = regressors.pit(p, y_BD), regressors.squared_errors(p, y_BD)
  metrics = {
    'rmse': regressors.rmse(p, y_BD),
    'nll': regressors.nll(p, y_BD),
    'crps': regressors.crps(p, y_BD),
    'calibration_error': regressors.calibration_error(pit_BD),
    **{f'coverage_{n}': regressors.covered(pit_BD, n / 100) for n in (50, 90, 95)},
    **{f'sharpness_{n}': regressors.sharpness(p, n / 100) for n in (50, 90, 95)},
    **{name: float(value_B.mean()) for name, value_B in uncertainties.items()},
    **{f'entropy_{name}': float(value_B.mean()) for name, value_B in entropies.items()},
    **{f'prr_{name}': rejection_ratio(value_B, loss_B) for name, value_B in uncertainties.items()},
  }
  metrics['prr'] = metrics['prr_total']
  if ensemble is not None:
    metrics['agreement_kl'], metrics['agreement_knowledge'] = regressors.agreement(p, ensemble)
  return metrics


def gap_closed(member, ensemble, student, *, member_se=0.0, test_se=0.0):
  """(member - student) / (member - ensemble): 0 is one network, 1 the ensemble, for any metric.

  None where the gap between member and ensemble is less than two of its standard errors, is zero,
  or where a value is missing or not finite: there is nothing to close, or to measure it by. Its
  standard error has two parts: how much members differ, and how far so many test examples tell.
  """
  values = member, ensemble, student
  if any(value is None or not math.isfinite(value) for value in values):
    return None
  gap = member - ensemble
  if gap == 0 or abs(gap) < 2 * math.hypot(member_se, test_se):
    return None
  return (member - student) / gap


def gap_closed_se(member, ensemble, student_se):
  """Standard error of gap_closed over the student's seeds, member and ensemble held."""
  return student_se / abs(member - ensemble)
