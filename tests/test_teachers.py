"""Outputs of other libraries' members, and the file that holds them."""

import os

import jax
import numpy as np
import pytest

from ensdistill import teachers

X = np.random.default_rng(0).random((40, 4)).astype(np.float32)
Y = np.arange(40) % 3


def test_a_forest_gives_the_logarithms_of_its_trees():
  from sklearn.ensemble import RandomForestClassifier

  forest = RandomForestClassifier(5, random_state=0, min_samples_leaf=3).fit(X, 10 * Y)
  outputs = teachers.from_sklearn(forest, X)
  assert outputs.shape == (40, 5, 3) and outputs.dtype == np.float32
  mean = np.exp(outputs).mean(1)
  np.testing.assert_allclose(mean, forest.predict_proba(X), atol=1e-5)


def test_bagged_members_see_their_columns_and_lack_classes():
  from sklearn.ensemble import BaggingClassifier
  from sklearn.neighbors import KNeighborsClassifier

  settings = dict(n_estimators=6, max_samples=3, max_features=2, random_state=0)
  bagging = BaggingClassifier(KNeighborsClassifier(1), **settings).fit(X, Y)
  assert any(len(member.classes_) < 3 for member in bagging.estimators_)
  outputs = teachers.from_sklearn(bagging, X)
  np.testing.assert_allclose(np.exp(outputs).mean(1), bagging.predict_proba(X), atol=1e-5)


def test_classifiers_of_a_list_share_all_classes():
  from sklearn.naive_bayes import GaussianNB

  members = [GaussianNB().fit(X[Y != 2], Y[Y != 2]), GaussianNB().fit(X, Y)]
  outputs = teachers.from_sklearn(members, X.reshape(40, 2, 2))
  assert outputs.shape == (40, 2, 3)
  np.testing.assert_allclose(outputs[:, 0, 2], np.log(teachers.SMALLEST), rtol=1e-6)


def test_regressors_give_mean_and_log_variance():
  from sklearn.linear_model import BayesianRidge, Ridge

  y = X @ np.arange(4.0)
  bayes, ridge = BayesianRidge().fit(X, y), Ridge().fit(X, y)
  outputs = teachers.from_sklearn([bayes], X)
  mean, deviation = bayes.predict(X, return_std=True)
  np.testing.assert_allclose(outputs[:, 0], np.stack([mean, 2 * np.log(deviation)], 1), rtol=1e-4)
  np.testing.assert_allclose(teachers.from_sklearn([ridge], X, variance=0.5)[:, 0, 1], np.log(0.5))
  with pytest.raises(ValueError, match='Ridge predicts no variance: pass variance='):
    teachers.from_sklearn([ridge], X)


def test_modules_of_torch():
  torch = pytest.importorskip('torch')
  layers = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(12, 3))]
  images = np.random.default_rng(1).integers(0, 256, (7, 2, 2, 3)).astype(np.uint8)
  outputs = teachers.from_torch(layers, images, batch=3)
  seen = torch.as_tensor(images.astype(np.float32) / 255).permute(0, 3, 1, 2)
  theirs = layers[0].eval()(seen).detach().numpy()
  np.testing.assert_allclose(outputs[:, 0], theirs, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match='pass probabilities=True'):
    teachers.from_torch([torch.nn.Sequential(*layers[0], torch.nn.Softmax(1))], images)


@jax.numpy_rank_promotion('allow')  # Keras relies on it
def test_models_of_keras():
  os.environ.setdefault('KERAS_BACKEND', 'jax')
  keras = pytest.importorskip('keras')
  model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)])
  ended = keras.Sequential([model, keras.layers.Softmax()])
  outputs = teachers.from_keras([model], X, batch=16)
  np.testing.assert_allclose(
    outputs[:, 0], np.asarray(model.predict(X, verbose=0)), rtol=1e-4, atol=1e-5
  )
  with pytest.raises(ValueError, match='pass probabilities=True'):
    teachers.from_keras([ended], X)
  log = teachers.from_keras([ended], X, probabilities=True)[:, 0]
  np.testing.assert_allclose(log - log[:, :1], outputs[:, 0] - outputs[:, 0, :1], atol=1e-4)


def test_the_file_is_checked_before_it_is_written(tmp_path):
  outputs, file = np.zeros((5, 2, 3)), tmp_path / 'teacher.npz'
  for wrong, words in (
    (dict(test=outputs), 'train is missing'),
    (dict(train=outputs, testing=outputs), "unknown part 'testing'"),
    (dict(train=outputs, test=outputs[:, :1]), 'with the M and O of train'),
    (dict(train=outputs[0]), r'train has shape \(2, 3\)'),
    (dict(train=np.full((5, 2, 3), np.inf)), 'train holds NaN or infinity'),
  ):
    with pytest.raises(ValueError, match=words):
      teachers.save(file, **wrong)
    assert not file.exists()
  teachers.save(file, train=outputs, ood={'photographs': outputs})
  with np.load(file) as stored:
    assert set(stored) == {'train', 'ood/photographs'} and stored['train'].dtype == np.float32
