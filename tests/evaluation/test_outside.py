"""The out-of-distribution set "outside": rows of a table with one column beyond its range."""

import dataclasses

import numpy as np
import pytest
import tiny

from ensdistill import data
from ensdistill.evaluation import sets


def test_outside_moves_one_column_beyond_the_training_range():
  random = np.random.default_rng(0)
  x = random.normal(0, (1, 100, 1e-3), (50, 3)).astype(np.float32)
  x[:, 1] = 5.0  # constant
  split = data.Split(x[:40], np.zeros((40, 1), np.float32))
  table = dataclasses.replace(
    tiny.dataset(), family='gaussian', train=split, test=data.Split(x[40:], split.y[:10])
  )
  moved = sets.inputs(table, 'default', {})['ood/outside']
  changed = moved != table.test.x
  assert changed.sum(1).tolist() == [1] * 10 and not changed[:, 1].any() and changed[:, 2].any()
  low, high = split.x.min(0), split.x.max(0)
  beyond = (
    np.maximum(low - moved, moved - high)[changed]
    / np.broadcast_to(high - low, x[40:].shape)[changed]
  )
  assert (beyond > 0.49).all() and (beyond < 1.01).all()
  np.testing.assert_array_equal(moved, sets.inputs(table, 'outside', {})['ood/outside'])
  sets.check(table, ood='outside', shifts='none')
  with pytest.raises(ValueError, match="'outside' moves columns of a table, but tiny holds images"):
    sets.check(tiny.dataset(), ood='outside', shifts='none')
