"""Stored outputs: their rows follow the data set's, and every mistake is one line."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from ensdistill import data, families, given
from ensdistill.data.errors import DataError


@pytest.fixture(scope='module')
def digits():
  return data.load('digits', limit=150, seed=3)


def logits(part, members=3, strength=4.0, seed=0):
  """Outputs that favour the label; a column of the first member numbers the examples."""
  random = np.random.default_rng(seed)
  y = data.parts('digits')[part].y
  found = random.normal(size=(len(y), members, 10)).astype(np.float32)
  found[np.arange(len(y)), :, y] += strength
  found[:, 0, 0] += np.arange(len(y)) / 1000
  return found


def table():
  return {'train': logits('train'), 'test': logits('test', seed=1)}


def load(arrays, dataset):
  return given.from_arrays(arrays, dataset, 'FILE')


def test_rows_are_those_of_the_examples(digits):
  arrays = table()
  found = load(arrays, digits)
  assert found.size == 3
  for part, origin in digits.rows.items():
    np.testing.assert_array_equal(found.tables[part], arrays[origin.part][origin.rows])
    y = data.parts('digits')[origin.part].y[origin.rows]
    np.testing.assert_array_equal(y, getattr(digits, part).y)
    accuracy = (found.tables[part].argmax(-1) == y[:, None]).mean(0)
    np.testing.assert_allclose(found.agreement[part], accuracy)
  assert found.missing(['valid', 'test', 'ood/a']) == ['ood/a']


def test_validation_comes_from_the_training_rows_where_the_source_has_none(digits):
  assert digits.rows['valid'].part == 'train'
  assert not set(digits.rows['valid'].rows) & set(digits.rows['train'].rows)
  toy = data.load('toy1d')
  assert toy.rows['valid'].part == 'valid'


@pytest.mark.parametrize('part', ['train', 'test'])
def test_rows_in_another_order_are_refused(digits, part):
  arrays = table()
  arrays[part] = np.random.default_rng(0).permutation(arrays[part])
  with pytest.raises(DataError, match=f'every member is at chance on {part}'):
    load(arrays, digits)


def test_few_labels_prove_nothing():
  few = data.load('digits', limit=20)
  arrays = table() | {'train': np.random.default_rng(0).permutation(logits('train'))}
  assert load(arrays, few).size == 3


def wrong(arrays, name, change):
  arrays[name] = change(arrays[name])
  return arrays


def nan(array):
  array = array.copy()
  array[7, 1, 2] = np.nan
  return array


def softmax(array):
  return np.exp(array) / np.exp(array).sum(-1, keepdims=True)


@pytest.mark.parametrize(
  ('name', 'change', 'words'),
  [
    ('train', lambda a: a[:-1], 'train has 799 rows, but digits has 800 train examples'),
    ('test', lambda a: a[:, :2], 'test has 2 members, but train has 3'),
    ('train', lambda a: a[..., :9], r'store floats \[N, M, 10\], a logit for each class'),
    ('train', lambda a: a[:, 0], r'shape \(800, 10\): store floats'),
    ('train', lambda a: a.astype(int), 'train is int64'),
    ('test', nan, r'test\[7\] holds NaN or infinity'),
    ('train', softmax, 'holds probabilities'),
  ],
)
def test_wrong_arrays_are_named(digits, name, change, words):
  with pytest.raises(DataError, match=words):
    load(wrong(table(), name, change), digits)


def test_unknown_and_missing_arrays(digits):
  with pytest.raises(DataError, match='no array train'):
    load({'test': logits('test')}, digits)
  with pytest.raises(DataError, match="unknown array 'testing'"):
    load(table() | {'testing': logits('test')}, digits)


def test_regression_outputs_are_standardised_like_the_targets():
  """N(m, v) of y becomes N((m - mu) / sd, v / sd^2) of (y - mu) / sd: log densities agree."""
  toy = data.load('toy1d')
  random = np.random.default_rng(0)
  y = {part: p.y for part, p in data.parts('toy1d').items() if p.y is not None}
  arrays = {
    part: np.concatenate(
      [own[:, None] + 0.1 * random.normal(size=(len(own), 2, 1)), np.full((len(own), 2, 1), -1.0)],
      -1,
    ).astype(np.float32)
    for part, own in y.items()
  }
  found = load(arrays, toy)
  mean, log_var = np.split(found.tables['train'], 2, -1)
  standard = families.gaussian.standardise(toy.train.y, toy.target_mean, toy.target_std)
  ours = stats.norm.logpdf(standard[:, None], mean, np.exp(log_var / 2))
  own = arrays['train'][toy.rows['train'].rows]
  theirs = stats.norm.logpdf(toy.train.y[:, None], own[..., :1], np.exp(own[..., 1:] / 2))
  np.testing.assert_allclose(ours - np.log(toy.target_std[0]), theirs, rtol=1e-4, atol=1e-4)
  shuffled = arrays | {'train': random.permutation(arrays['train'])}
  with pytest.raises(DataError, match='correlation with the targets'):
    load(shuffled, toy)


def test_the_digest_is_that_of_the_numbers(digits):
  one, two = load(table(), digits), load(table(), digits)
  other = table()
  other['test'][0, 0, 0] += 1
  assert one.content == two.content != load(other, digits).content
  assert dataclasses.replace(one, where='elsewhere').content == one.content
