"""Columns in another order than the classes are noticed, and the order that fits is named."""

import numpy as np
import pytest

from ensdistill import data, given
from ensdistill.data.errors import DataError
from ensdistill.given import orders


def outputs(y_N, classes, strength=3.0, seed=0):
  """Outputs [N, 2, K] that favour the label."""
  found = np.random.default_rng(seed).normal(size=(len(y_N), 2, classes)).astype(np.float32)
  found[np.arange(len(y_N)), :, y_N] += strength
  return found


@pytest.mark.parametrize('classes', [2, 10, 200])
def test_the_order_of_the_columns_is_found(classes):
  random = np.random.default_rng(1)
  y_N = random.integers(classes, size=20 * classes + 100)
  order = np.roll(np.arange(classes), 1)  # column c holds class order[c]
  right = outputs(y_N, classes)
  columns = orders.columns_of_classes(right[:, :, order], y_N)
  np.testing.assert_array_equal(right[:, :, order][:, :, columns], right)
  assert orders.columns_of_classes(right, y_N) is None


def test_rows_in_another_order_have_no_order_of_columns():
  y_N = np.random.default_rng(1).integers(3, size=60)
  assert (
    orders.columns_of_classes(outputs(y_N, 3), np.random.default_rng(2).permutation(y_N)) is None
  )


def test_a_weak_ensemble_is_not_doubted():
  y_N = np.random.default_rng(1).integers(5, size=200)
  assert orders.columns_of_classes(outputs(y_N, 5, strength=0.3), y_N) is None


def table(order):
  x = data.parts('digits')
  return {part: outputs(x[part].y, 10)[:, :, order] for part in ('train', 'test')}


def test_all_columns_in_another_order_are_refused_with_the_remedy():
  digits = data.load('digits', limit=150)
  order = [*range(1, 10), 0]
  with pytest.raises(DataError, match='every member is at chance on train') as error:
    given.from_arrays(table(order), digits, 'FILE')
  assert 'store outputs[:, :, [9, 0, 1, 2, 3, 4, 5, 6, 7, 8]]' in str(error.value)


def test_two_columns_that_are_swapped_are_doubted():
  digits = data.load('digits', limit=150)
  order = [1, 0, *range(2, 10)]
  assert '[1, 0, 2, 3,' in given.from_arrays(table(order), digits, 'FILE').doubt
  assert not given.from_arrays(table(list(range(10))), digits, 'FILE').doubt
