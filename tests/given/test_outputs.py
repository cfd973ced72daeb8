"""Stored outputs: their rows follow the data set's, and every mistake is one line."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from ensdistill import data, families, given, teachers
from ensdistill.config import build, settings
from ensdistill.data.errors import DataError
from ensdistill.given import outputs


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
  network = given.Recorded(build.given_method(digits), found).network(digits)
  missing = network.missing(['valid', 'test', 'ood/a'])
  assert missing == {'ood/a': 'FILE has no outputs for it'}


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


def test_a_single_member_in_another_order_is_refused(digits):
  arrays = table()
  arrays['train'][:, 1] = arrays['train'][:, 1, ::-1]
  with pytest.raises(DataError, match='member 1 is at chance on train .accuracy 0.0.* the median'):
    load(arrays, digits)
  assert given.from_arrays(arrays, digits, 'FILE', check_order=False).size == 3


def test_rows_that_are_partly_in_another_order_are_doubted(digits):
  arrays = table()
  assert not load(arrays, digits).doubt
  arrays['train'][300:] = np.roll(arrays['train'][300:], 1, 0)
  assert 'far less accurate on train (0.' in load(arrays, digits).doubt


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
  with pytest.raises(DataError, match=r'no array train \(it has test\)'):
    load({'test': logits('test')}, digits)
  with pytest.raises(DataError, match=r"unknown array 'val' \(did you mean 'valid'\?\)"):
    load(table() | {'val': logits('test')}, digits)
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


def binary(positives, rows=400):
  """A data set of two classes, of which few examples are positive."""
  y = np.zeros(rows, np.int64)
  y[np.linspace(0, rows - 1, positives).astype(int)] = 1
  x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
  return data.from_arrays(x, y, valid=0, classes=2), y


@pytest.mark.parametrize('positives', [4, 12, 200])
def test_perfect_members_are_accepted_however_rare_a_class_is(positives):
  dataset, y = binary(positives)
  perfect = np.eye(2, dtype=np.float32)[y][:, None].repeat(2, 1) * 4
  assert load({'train': perfect}, dataset).agreement['train'] == [1.0, 1.0]


def test_members_that_find_few_of_a_rare_class_are_accepted():
  dataset, y = binary(40)
  found = np.where(np.cumsum(y) <= 8, y, 0)
  members = np.eye(2, dtype=np.float32)[found][:, None] * 4
  np.testing.assert_allclose(load({'train': members}, dataset).agreement['train'], [0.92])


def test_members_that_predict_the_majority_are_not_judged():
  dataset, _ = binary(100)
  members = np.tile(np.float32([2, 1]), (400, 3, 1))
  assert load({'train': members}, dataset).agreement['train'] == [0.75] * 3


def test_chance_is_that_of_shuffled_labels():
  """The limit is the mean of accuracies on permuted labels and three deviations."""
  random = np.random.default_rng(0)
  y, predicted = random.choice(4, 300, p=[0.7, 0.2, 0.05, 0.05]), random.choice(4, 300)
  drawn = [(random.permutation(y) == predicted).mean() for _ in range(4000)]
  _, limit = outputs._accuracy(predicted, y)
  np.testing.assert_allclose(limit, np.mean(drawn) + 3 * np.std(drawn), rtol=0.02)


def regression(noise, rows=50):
  random = np.random.default_rng(1)
  x = random.normal(size=(rows + 450, 2)).astype(np.float32)
  y = 1000 + 50 * x[:, :1]
  means = y + 50 * noise * random.normal(size=y.shape)
  return data.from_arrays(x, y, valid=rows), np.stack([means, np.ones_like(y)], 2).reshape(-1, 1, 2)


def test_a_small_validation_part_is_not_judged_alone():
  dataset, found = regression(5.0)
  own = load({'train': found.astype(np.float32)}, dataset)
  assert own.agreement['valid'][0] < 0.42 and own.agreement['train'][0] > 0.1


@pytest.mark.parametrize(
  'change', [lambda m: (m - 1000) / 50, lambda m: m - 1000, lambda m: m / 1000, lambda m: 60 * m]
)
def test_outputs_in_other_units_are_refused(change):
  dataset, found = regression(0.1)
  found[..., 0] = change(found[..., 0])
  with pytest.raises(DataError, match="train is not in the target's units"):
    load({'train': found.astype(np.float32)}, dataset)
  with pytest.raises(DataError, match="train is not in the target's units"):
    given.from_arrays({'train': found.astype(np.float32)}, dataset, 'FILE', check_order=False)


def test_arrays_that_nothing_reads_are_named(digits):
  with pytest.raises(DataError, match="array 'valid', but digits has no valid part"):
    load(table() | {'valid': logits('train')}, digits)
  assert load(table() | {'ood/elsewhere': logits('test')}, digits).unused == ('ood/elsewhere',)


def configured(file, **changes):
  config = settings.default()
  settings.apply(config, {'teacher.outputs': str(file), 'evaluate.ood': 'none', **changes})
  return config


def of_spirals(seed):
  y = data.parts('spirals', seed=seed)['train'].y
  return np.eye(3, dtype=np.float32)[y][:, None] * 4


def test_outputs_for_points_of_another_seed_are_refused(tmp_path):
  file = tmp_path / 'teacher.npz'
  teachers.save(file, train=of_spirals(3), seed=3)
  dataset = data.load('spirals', seed=3)
  assert given.load(configured(file, seed=3, **{'data.name': 'spirals'}), dataset).size == 1
  with pytest.raises(DataError, match='outputs for seed 3, and seed=0 has other examples'):
    given.load(configured(file, **{'data.name': 'spirals'}), data.load('spirals'))


def test_outputs_of_another_split_are_refused(tmp_path):
  file = tmp_path / 'teacher.npz'
  y = data.parts('diabetes', split=2)['train'].y
  found = np.stack([y, np.zeros_like(y)], 2).reshape(-1, 1, 2).astype(np.float32)
  teachers.save(file, train=found, split=2)
  changes = {'data.name': 'diabetes', 'seed': 5}  # its examples do not depend on the seed
  own = data.load('diabetes', split=2, seed=5)
  assert given.load(configured(file, **changes, **{'data.split': 2}), own).size == 1
  with pytest.raises(DataError, match='outputs for split 2, and data.split=0'):
    given.load(configured(file, **changes), own)


def test_a_set_of_another_shape_stops_no_run(tmp_path):
  file = tmp_path / 'teacher.npz'
  teachers.save(file, **table(), ood={'spirals_ood': logits('test')})
  changes = {'data.name': 'digits', 'evaluate.ood': 'spirals_ood'}
  assert (
    'ood/spirals_ood' not in given.load(configured(file, **changes), data.load('digits')).tables
  )
