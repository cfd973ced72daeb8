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
  classwise_ece,
  ece,
  fit_temperature,
  reliability,
  smooth_ece,
  usable_temperature,
)
from ensdistill.metrics.diversity import agreement, dee, disagreement, epkl, pairwise_kl
from ensdistill.metrics.prediction_sets import conformal, conformal_sets, conformal_threshold
from ensdistill.metrics.regression import calibration_error, coverage, crps, pit, rmse, sharpness
from ensdistill.metrics.scoring import accuracy, brier, member_accuracies, nll
from ensdistill.metrics.uncertainty import (
  augrc,
  aupr,
  aurc,
  auroc,
  coverage_at_risk,
  fpr95,
  prr,
  rank_correlation,
  rejection_curve,
  risk_at_coverage,
)

__all__ = [
  'accuracy',
  'adaptive_ece',
  'agreement',
  'apply_temperature',
  'augrc',
  'aupr',
  'aurc',
  'auroc',
  'brier',
  'calibration_error',
  'classwise_ece',
  'conformal',
  'conformal_sets',
  'conformal_threshold',
  'coverage',
  'coverage_at_risk',
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
  'risk_at_coverage',
  'rmse',
  'sharpness',
  'smooth_ece',
  'summary',
  'usable_temperature',
]
