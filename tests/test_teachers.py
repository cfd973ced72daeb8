"""Outputs of other libraries' members, and the file that holds them."""

import os
import types

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


def test_what_modules_return():
  torch = pytest.importorskip('torch')
  logits = torch.arange(12.0).reshape(4, 3)
  x = X[:4]
  hub = types.SimpleNamespace(logits=logits)
  for found in (hub, {'logits': logits}, (logits,)):
    np.testing.assert_array_equal(teachers._torch_outputs(found), logits)
  with pytest.raises(ValueError, match='a model returns a tuple: wrap it'):
    teachers._torch_outputs((logits, (logits,)))
  both = [teachers._torch_outputs(kind([logits[:, :1], logits[:, 1:2]])) for kind in (list, tuple)]
  np.testing.assert_array_equal(*both)

  class Wrong(torch.nn.Module):
    def forward(self, x):
      return {'scores': x}

  with pytest.raises(ValueError, match='a model returns a dict: wrap it in a module that returns'):
    teachers.from_torch([Wrong()], x)


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
    (dict(train=np.full((5, 2, 4), 0.25)), 'train holds probabilities'),
  ):
    with pytest.raises(ValueError, match=words):
      teachers.save(file, **wrong)
    assert not file.exists()
  teachers.save(file, train=outputs, ood={'photographs': outputs})
  with np.load(file) as stored:
    assert set(stored) == {'train', 'ood/photographs'} and stored['train'].dtype == np.float32


def test_a_table_of_small_integers_is_not_scaled():
  from sklearn.tree import DecisionTreeClassifier

  x = np.random.default_rng(0).integers(0, 256, (60, 3)).astype(np.uint8)
  members = [DecisionTreeClassifier(max_depth=2).fit(x, x[:, 0] > 99 + m) for m in range(2)]
  outputs = teachers.from_sklearn(members, x)
  np.testing.assert_allclose(np.exp(outputs[:, 1]), members[1].predict_proba(x), atol=1e-5)


def test_a_table_of_small_integers_reaches_modules_unscaled():
  torch = pytest.importorskip('torch')
  x = np.random.default_rng(0).integers(0, 256, (20, 3)).astype(np.uint8)
  outputs = teachers.from_torch([torch.nn.Identity()], x)
  np.testing.assert_array_equal(outputs[:, 0], x)


def test_a_vote_of_classifiers_gives_its_members():
  from sklearn.ensemble import VotingClassifier
  from sklearn.linear_model import LogisticRegression
  from sklearn.naive_bayes import GaussianNB

  members = [('one', GaussianNB()), ('two', LogisticRegression())]
  vote = VotingClassifier(members, voting='soft').fit(X, np.array(['c', 'a', 'b'])[Y])
  mean = np.exp(teachers.from_sklearn(vote, X)).mean(1)
  np.testing.assert_allclose(mean, vote.predict_proba(X), atol=1e-5)


def boosted():
  from sklearn.ensemble import GradientBoostingClassifier

  return GradientBoostingClassifier(n_estimators=2).fit(X, Y)


def one_against_the_rest():
  from sklearn.linear_model import LogisticRegression
  from sklearn.multiclass import OneVsRestClassifier

  return OneVsRestClassifier(LogisticRegression()).fit(X, Y)


def adaptive():
  from sklearn.ensemble import AdaBoostClassifier

  return AdaBoostClassifier(n_estimators=2).fit(X, Y)


def single():
  from sklearn.linear_model import LogisticRegression

  return LogisticRegression().fit(X, Y)


@pytest.mark.parametrize('made', [boosted, one_against_the_rest, adaptive, single])
def test_parts_that_predict_no_targets_are_refused(made):
  with pytest.raises(ValueError, match='pass a list of fitted estimators'):
    teachers.from_sklearn(made(), X)


def test_estimators_must_be_fitted():
  from sklearn.ensemble import RandomForestClassifier
  from sklearn.linear_model import LogisticRegression

  for models in ([LogisticRegression()], RandomForestClassifier()):
    with pytest.raises(ValueError, match='is not fitted: call its fit first'):
      teachers.from_sklearn(models, X)


def test_classifiers_of_several_targets_are_refused():
  from sklearn.ensemble import RandomForestClassifier

  forest = RandomForestClassifier(2).fit(X, np.stack([Y, Y], 1))
  for models in (forest, list(forest.estimators_)):
    with pytest.raises(ValueError, match='has several targets of classes'):
      teachers.from_sklearn(models, X)


def test_members_may_hold_labels_instead_of_positions():
  from sklearn.ensemble import RandomForestClassifier
  from sklearn.tree import DecisionTreeClassifier

  forest = RandomForestClassifier(2, random_state=0).fit(X, 10 * Y)
  forest.estimators_ = [DecisionTreeClassifier(max_depth=2).fit(X, 10 * Y) for _ in range(2)]
  outputs = teachers.from_sklearn(forest, X)
  own = forest.estimators_[0].predict_proba(X)
  np.testing.assert_allclose(np.exp(outputs[:, 0]), own, atol=1e-5)


def test_probabilities_are_checked():
  torch = pytest.importorskip('torch')
  with pytest.raises(ValueError, match='leave probabilities out for logits'):
    teachers.from_torch([torch.nn.Linear(4, 3)], X, probabilities=True)
  with pytest.raises(ValueError, match=r'one Sequential: give a list of modules, \[model\]'):
    teachers.from_torch(torch.nn.Sequential(torch.nn.Linear(4, 3)), X)


def test_modules_keep_their_modes_and_their_precision():
  torch = pytest.importorskip('torch')
  layers = torch.nn.BatchNorm1d(4), torch.nn.Dropout(), torch.nn.Linear(4, 3)
  network = torch.nn.Sequential(*layers).double().train()
  layers[0].eval()
  outputs = teachers.from_torch([network], X)
  assert outputs.dtype == np.float32 and outputs.shape == (40, 1, 3)
  assert [module.training for module in (network, *layers)] == [True, False, True, True]
  with pytest.raises(ValueError, match='models is empty'):
    teachers.from_torch([], X)
