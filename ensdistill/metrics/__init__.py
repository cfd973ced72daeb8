"""Metrics: functions of log-probabilities or predictive distributions, exact over a set.

They compute in numpy's float64 on the host for any input; nothing is compiled. `of(family)` returns
all metrics of a family. `metrics.nll` and `metrics.agreement` are for classifiers;
`metrics.regression.nll` and `metrics.regression.agreement` are for regressors.
"""

from ensdistill.metrics import regression, summary
from ensdistill.metrics.by_family import of
from ensdistill.metrics.calibration import (
  adaptive_ece,
  apply_temperature,
  conformal,
  ece,
  fit_temperature,
  reliability,
)
from ensdistill.metrics.diversity import agreement, dee, disagreement, epkl, pairwise_kl
from ensdistill.metrics.regression import calibration_error, coverage, crps, pit, rmse, sharpness
from ensdistill.metrics.scoring import accuracy, brier, member_accuracies, nll
from ensdistill.metrics.uncertainty import (
  aupr,
  auroc,
  fpr95,
  prr,
  rank_correlation,
  rejection_curve,
)

__all__ = [
  'accuracy',
  'adaptive_ece',
  'agreement',
  'apply_temperature',
  'aupr',
  'auroc',
  'brier',
  'calibration_error',
  'conformal',
  'coverage',
  'crps',
  'dee',
  'disagreement',
  'ece',
  'epkl',
  'fit_temperature',
  'fpr95',
  'member_accuracies',
  'nll',
  'of',
  'pairwise_kl',
  'pit',
  'prr',
  'rank_correlation',
  'regression',
  'rejection_curve',
  'reliability',
  'rmse',
  'sharpness',
  'summary',
]
