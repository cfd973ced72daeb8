"""Distillation as scikit-learn estimators: one network with the knowledge of an ensemble.

from ensdistill.sklearn import EnsembleDistiller
EnsembleDistiller(random_state=0).fit(x, y).predict_proba(x_new)
EnsembleDistiller(teacher=forest).fit(x, y)  # a forest that is fitted already
"""

import numbers
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ensdistill import library, teachers
from ensdistill.data import DataError
from ensdistill.student.model import Prediction

BLOCK = 256  # rows that are predicted together: one program, so results do not depend on the number
FEWEST = 20  # examples below which none are kept for validation


class _Distiller(BaseEstimator):
  """What classifier and regressor share."""

  def __init__(
    self,
    *,
    method='hydra',
    teacher=None,
    teacher_variance=None,
    members=4,
    network='mlp',
    network_settings=None,
    steps=1000,
    batch_size=128,
    learning_rate=3e-3,
    valid=0.1,
    changes=None,
    random_state=None,
    quiet=True,
  ):
    self.method = method
    self.teacher = teacher
    self.teacher_variance = teacher_variance
    self.members = members
    self.network = network
    self.network_settings = network_settings
    self.steps = steps
    self.batch_size = batch_size
    self.learning_rate = learning_rate
    self.valid = valid
    self.changes = changes
    self.random_state = random_state
    self.quiet = quiet

  def __sklearn_is_fitted__(self) -> bool:
    return hasattr(self, 'student_')

  def uncertainty(self, X) -> Prediction:
    """Return the student's whole prediction: with uncertainties, and rows far outside."""
    return self._predict(X)

  def _distil(self, X, y, ensemble, names=None) -> None:
    """Train the student on checked arrays."""
    seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
    rates = {f'{part}.optimizer.rate': self.learning_rate for part in ('student', 'teacher')}
    columns = getattr(self, 'feature_names_in_', None)
    try:
      self.student_ = library.distil(
        ensemble,
        X,
        y,
        method=self.method,
        network=self.network,
        network_settings=self.network_settings,
        steps=self.steps,
        batch_size=self.batch_size,
        seed=seed,
        valid=self.valid if len(X) >= FEWEST else 0.0,
        changes=rates | dict(self.changes or {}),
        quiet=self.quiet,
        columns=None if columns is None else columns.tolist(),
        classes=names,
      )
    except DataError as error:  # estimators raise ValueError for wrong data
      raise ValueError(str(error)) from error

  def _ensemble(self, X) -> Any:
    """Return what `ensdistill.distil` takes as the ensemble: a number, outputs or functions."""
    if self.teacher is None:
      if not isinstance(self.members, numbers.Integral) or self.members < 1:
        raise ValueError(f'members={self.members!r} must be a positive number')
      return int(self.members)
    if _is_fitted_ensemble(self.teacher):
      return teachers.from_sklearn(self.teacher, X, variance=self.teacher_variance)
    return self.teacher

  def _predict(self, X) -> Prediction:
    X, size = self._padded(X)
    return self.student_.predict(X, batch_size=BLOCK).rows(slice(size))

  def _padded(self, X) -> tuple[np.ndarray, int]:
    """Return checked rows, at least a block of them, and their number."""
    check_is_fitted(self)
    X = np.asarray(validate_data(self, X, reset=False), np.float64)
    return np.concatenate([X, np.repeat(X[-1:], max(BLOCK - len(X), 0), 0)]), len(X)


class EnsembleDistiller(ClassifierMixin, _Distiller):
  """A classifier that is one network, distilled from an ensemble.

  fit trains `members` networks and distils them, or distils `teacher`. Attributes: student_ (as
  `ensdistill.load` returns it), classes_, n_features_in_, feature_names_in_.

  Args:
    method: a method of the recipes, see `ensdistill list`.
    teacher: a list of fitted estimators, or a fitted forest or bagging ensemble; outputs [N, M, O]
      for the rows that fit will get; or functions as `ensdistill.distil` takes them. None trains an
      ensemble.
    teacher_variance: for regressors that predict no deviation, see `teachers.from_sklearn`.
    members: number of networks that are trained, without a teacher.
    network: the backbone of student and members.
    network_settings: its settings, such as {'hidden': (64, 64)}.
    steps: training steps of the student, and of the members.
    batch_size: examples of a step.
    learning_rate: rate of Adam.
    valid: share of the rows that choose the checkpoint, where there are 20 rows or more.
    changes: other settings by name, see `ensdistill config --all`.
    random_state: seed of everything that is drawn.
    quiet: print nothing.
  """

  def fit(self, X, y):
    """Train the ensemble where it is not given, and the student."""
    X, y = validate_data(self, X, y, dtype='numeric', ensure_min_samples=2)
    check_classification_targets(y)
    self.classes_, numbers_N = np.unique(y, return_inverse=True)
    if len(self.classes_) < 2:
      raise ValueError(f'y holds one class, {self.classes_[0]!r}: give examples of two classes')
    names = list(map(str, self.classes_.tolist()))
    if len(set(names)) < len(names):
      names = None
    self._check_classes()
    self._distil(X, numbers_N, self._ensemble(X), names)
    return self

  def _check_classes(self) -> None:
    """Refuse fitted estimators of other classes."""
    if not _is_fitted_ensemble(self.teacher):
      return
    every = self.teacher if isinstance(self.teacher, list | tuple) else [self.teacher]
    for one in every:
      teachers.check_fitted(one)
      if not hasattr(one, 'classes_'):
        raise ValueError(f'the teacher holds a {type(one).__name__}, which has no classes_')
    known = np.unique(np.concatenate([np.asarray(one.classes_) for one in every]))
    if known.tolist() != self.classes_.tolist():
      raise ValueError(
        f'the teacher has classes {known.tolist()}, y has {self.classes_.tolist()}: fit both on '
        'the same classes'
      )

  def predict_proba(self, X) -> np.ndarray:
    """Return probabilities [N, K] in the order of classes_."""
    probs = np.asarray(self._predict(X).probs, np.float64)
    return probs / probs.sum(1, keepdims=True)

  def predict(self, X) -> np.ndarray:
    """Return the most likely class of each row."""
    best = self.predict_proba(X).argmax(1)
    return self.classes_[best]


class EnsembleDistillerRegressor(MultiOutputMixin, RegressorMixin, _Distiller):
  """A regressor that is one network, distilled from an ensemble; see EnsembleDistiller."""

  def fit(self, X, y):
    """Train the ensemble where it is not given, and the student."""
    X, y = validate_data(
      self, X, y, dtype='numeric', ensure_min_samples=2, multi_output=True, y_numeric=True
    )
    self._one_target = y.ndim == 1
    self._distil(X, np.asarray(y, np.float64), self._ensemble(X))
    return self

  def predict(self, X, return_std: bool = False):
    """Return means [N], or [N, D] of several targets; with return_std also the deviations."""
    p = self._predict(X)
    found, deviation = p.mean, None
    if return_std:
      assert p.basis is not None
      distribution = p.basis.distribution
      deviation = np.sqrt(distribution.data() + distribution.knowledge())
    if self._one_target:
      found, deviation = (one if one is None else one[:, 0] for one in (found, deviation))
    return (found, deviation) if return_std else found


def _is_fitted_ensemble(teacher) -> bool:
  """Return whether a teacher is made of estimators of scikit-learn."""
  if isinstance(teacher, list | tuple):
    return bool(teacher) and all(map(_is_estimator, teacher))
  return _is_estimator(teacher)


def _is_estimator(one) -> bool:
  return hasattr(one, 'predict') and hasattr(one, 'get_params')
