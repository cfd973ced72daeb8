"""The gate: how differences are measured, and what is compared."""

import exported
import jax
import numpy as np
import pytest

from ensdistill.exporting import inference, parity


def test_probabilities_are_compared_as_they_are():
  expected = {'probabilities': np.array([[0.5, 0.5], [1.0, 0.0]]), 'total': np.array([0.7, 0.0])}
  found = {'probabilities': np.array([[0.5, 0.5], [0.75, 0.25]]), 'total': np.array([0.7, 0.1])}
  differences = parity.differences(expected, found, has_classes=True)
  assert differences == {'probabilities': 0.25, 'total': pytest.approx(0.1)}


def test_regression_is_relative_to_the_prediction():
  expected = {
    'mean': np.array([[100.0, 0.0]]),
    'variance': np.array([[4.0, 1.0]]),
    'total': np.array([5.0]),
    'members': np.array([[[101.0, 1.0], [99.0, -1.0]]]),
  }
  moved = {
    'mean': np.array([[101.0, 0.0]]),
    'variance': np.array([[4.0, 1.1]]),
    'total': np.array([5.5]),
    'members': np.array([[[101.0, 1.0], [99.0, -1.5]]]),
  }
  found = parity.differences(expected, moved, has_classes=False)
  assert found == pytest.approx({'mean': 0.5, 'variance': 0.1, 'total': 0.1, 'members': 0.5})


def test_nan_and_infinity_are_differences():
  whole = {'total': np.array([1.0, np.inf, np.nan])}
  assert parity.differences(whole, dict(whole), True) == {'total': 0}
  for broken in (np.nan, np.inf):
    found = {'total': np.array([broken, np.inf, np.nan])}
    assert parity.differences(whole, found, True) == {'total': np.inf}
  assert parity.differences(whole, {'total': np.ones(2)}, True) == {'total': np.inf}
  with pytest.raises(ValueError, match='outputs are'):
    parity.differences(whole, {}, True)


def test_a_file_that_differs_is_rejected():
  model = exported.student()
  compared = parity.inputs(model, exported.examples(model))
  assert compared['test'].shape == (7, 8, 8, 1) and len(compared['random']) == parity.RANDOM

  def moved(by, size):
    def run(x):
      expected = inference.expected(model, x)
      only = len(x) == size
      return expected | {'probabilities': expected['probabilities'] + by * only}

    return run

  found = parity.check(model, moved(0.9e-4, parity.BLOCK), compared)
  assert found['random']['probabilities'] == pytest.approx(0.9e-4, rel=1e-2)
  assert found['random']['total'] < 1e-6
  for size in (1, parity.BLOCK):  # one example, and a full block
    with pytest.raises(parity.Rejected, match="'probabilities' differs by 0.0003 .* inputs"):
      parity.check(model, moved(3e-4, size), compared)


@pytest.mark.parametrize('dtype', ['float32', 'uint8'])
def test_random_images_fill_the_range(dtype):
  x = parity.inputs(exported.student(dtype=dtype))['random']
  assert x.dtype == dtype and x.min() >= 0
  assert x.max() > (250 if dtype == 'uint8' else 0.99)


def test_random_rows_lie_in_the_range_of_training():
  model = exported.student(shape=(4,))
  x = parity.inputs(model)['random']
  assert x.dtype == np.float32 and x.min() >= -1 and x.max() <= 2 and np.ptp(x) > 2.5
  del model.spec['inputs']
  assert parity.inputs(model)['random'].shape == (parity.RANDOM, 4)


def test_invalid_test_inputs_are_left_out():
  model = exported.student(shape=(4,))
  x = exported.examples(model)
  x[2, 1] = np.nan
  assert len(parity.inputs(model, x)['test']) == 6


def test_targets_that_float32_cannot_hold_are_named():
  model = exported.student('gaussian', 'multi_head', 3, 'members', shape=(5,), targets=1)
  model.spec.update(target_mean=[1e5], target_std=[1.0])
  expected = inference.expected(model, exported.examples(model))
  run = jax.jit(inference.of(model).closed())
  assert parity.differences(expected, run(exported.examples(model)), False)['variance'] < 1e-5
  with pytest.raises(parity.Rejected, match='deviations from zero, .* minus a constant'):
    parity.check(model, run, {'random': exported.examples(model)})


def test_at_most_1000_test_inputs_are_compared():
  model = exported.student(shape=(4,))
  assert len(parity.inputs(model, np.zeros((1200, 4)))['test']) == parity.EXAMPLES
