"""The estimators of scikit-learn: their contract, ensembles that are given, and what they keep."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ensdistill.sklearn import EnsembleDistiller, EnsembleDistillerRegressor

QUICK = dict(members=2, steps=100, learning_rate=1e-2, network_settings={'hidden': (16,)})
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 3))
NAMES = np.array(['left', 'right'])[(X[:, 0] > 0).astype(int)]
TARGETS = 1000 + 50 * X[:, 0]

ONE_PHASE = {'student.phases': 1}  # a stage less to compile


@pytest.mark.slow
@parametrize_with_checks(
  [
    EnsembleDistiller(random_state=0, changes=ONE_PHASE, **QUICK),
    EnsembleDistillerRegressor(random_state=0, changes=ONE_PHASE, **QUICK),
  ],
)
@pytest.mark.filterwarnings('ignore::FutureWarning')
def test_contract_of_scikit_learn(estimator, check):
  check(estimator)


@pytest.fixture(scope='module')
def fitted() -> EnsembleDistiller:
  return EnsembleDistiller(random_state=0, **QUICK).fit(X, NAMES)


def test_a_classifier_keeps_the_names_of_classes(fitted):
  assert fitted.classes_.tolist() == fitted.student_.classes == ['left', 'right']
  assert fitted.n_features_in_ == 3 and fitted.score(X, NAMES) > 0.9
  probs = fitted.predict_proba(X)
  np.testing.assert_allclose(probs.sum(1), 1)
  np.testing.assert_allclose(probs, fitted.student_.predict(X).probs, atol=1e-6)
  assert fitted.student_.student.size == 2
  assert fitted.uncertainty(X[:1] * 99).outside.all()
  p = fitted.uncertainty(X[:5])
  assert p.abstain().shape == (5,) and p.predict_set().shape == (5, 2)
  np.testing.assert_array_equal(p.predict_set(), fitted.student_.predict_set(X)[:5])


def test_copies_predict_alike(fitted):
  again = pickle.loads(pickle.dumps(fitted))
  np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
  assert clone(fitted).get_params() == fitted.get_params()


def test_rows_do_not_depend_on_their_number(fitted):
  every = fitted.predict_proba(X)
  for rows in (slice(0, 1), slice(7, 9), slice(150, 200)):
    np.testing.assert_array_equal(fitted.predict_proba(X[rows]), every[rows])


def test_fitted_estimators_are_distilled():
  forest = RandomForestClassifier(5, random_state=0).fit(X, NAMES)
  student = EnsembleDistiller(teacher=forest, random_state=0, **QUICK).fit(X, NAMES)
  assert student.student_.student.size == 5 and student.score(X, NAMES) > 0.9
  other = [LogisticRegression().fit(X, np.where(NAMES == 'left', 'a', 'b'))]
  with pytest.raises(ValueError, match=r"the teacher has classes \['a', 'b'\], y has \['left'"):
    EnsembleDistiller(teacher=other, **QUICK).fit(X, NAMES)


def test_a_forest_of_regression_is_distilled():
  forest = RandomForestRegressor(5, random_state=0, min_samples_leaf=5).fit(X, TARGETS)
  student = EnsembleDistillerRegressor(
    teacher=forest, teacher_variance=9.0, random_state=0, **QUICK
  )
  assert student.fit(X, TARGETS).score(X, TARGETS) > 0.8
  mean, deviation = student.predict(X[:7], return_std=True)
  assert mean.shape == deviation.shape == (7,) and (deviation > 1).all()
  with pytest.raises(ValueError, match='predicts no variance: pass variance='):
    student.set_params(teacher_variance=None).fit(X, TARGETS)


class Callable:
  """As a model of Keras: it predicts, and is not an estimator of scikit-learn."""

  def predict(self, x):
    return x

  def __call__(self, x):
    return np.asarray(x)[:, :2]


@pytest.mark.parametrize(
  ('teacher', 'words'),
  [
    ([LogisticRegression()], 'LogisticRegression is not fitted: call its fit first'),
    (RandomForestClassifier(), 'RandomForestClassifier is not fitted: call its fit first'),
    (
      LogisticRegression().fit(X, NAMES),
      'is not a forest.*pass a list of fitted',
    ),
    ([Callable()], r'write it in JAX, or give its outputs \[N, M, O\]'),
    ([RandomForestRegressor(2).fit(X, TARGETS)], 'RandomForestRegressor, which has no classes_'),
  ],
)
def test_wrong_teachers_are_named(teacher, words):
  with pytest.raises(ValueError, match=words):
    EnsembleDistiller(teacher=teacher, **QUICK).fit(X, NAMES)


@pytest.mark.parametrize(
  ('settings', 'words'),
  [
    (dict(members=0), 'members=0 must be a positive number'),
    (dict(teacher=np.zeros((199, 2, 2))), 'train has 199 rows'),
    (dict(method='hydrant'), "unknown method 'hydrant'"),
    (dict(valid=2), 'valid=2 must be a share'),
  ],
)
def test_wrong_settings_are_named_by_fit(settings, words):
  with pytest.raises(ValueError, match=words):
    EnsembleDistiller(**QUICK | settings).fit(X, NAMES)


@pytest.mark.slow
def test_pipelines_and_searches():
  pipeline = make_pipeline(StandardScaler(), EnsembleDistiller(random_state=0, **QUICK))
  search = GridSearchCV(pipeline, {'ensembledistiller__steps': [1, 100]}, cv=2)
  search.fit(X, NAMES)
  assert search.best_params_ == {'ensembledistiller__steps': 100} and search.best_score_ > 0.9


def test_names_of_columns_are_kept():
  pandas = pytest.importorskip('pandas')
  frame = pandas.DataFrame(X, columns=['a', 'b', 'c'])
  fitted = EnsembleDistiller(random_state=0, **QUICK | {'steps': 2}).fit(frame, NAMES)
  assert fitted.feature_names_in_.tolist() == fitted.student_.columns == ['a', 'b', 'c']
  np.testing.assert_allclose(
    fitted.student_.predict(frame[['c', 'a', 'b']]).probs, fitted.predict_proba(frame), atol=1e-6
  )
