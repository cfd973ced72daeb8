"""Students with random weights, which need no training."""

import numpy as np
import pytest
import tiny

from ensdistill import data, export
from ensdistill.student.model import Model

COLUMNS = ['age', 'height', 'weight']
RANDOM = np.random.default_rng(0)
TABLE = (RANDOM.random((60, 3)) * [50, 1, 100] + [20, 1, 40]).astype(np.float32)


def untrained(dataset, **changes) -> Model:
  plan = tiny.plan(tiny.config(**changes), dataset)
  return export.model(plan, tiny.untrained(plan)[1])


@pytest.fixture(scope='session')
def table() -> Model:
  """A student of a table with names, with three heads."""
  y = np.arange(60) % 2
  dataset = data.from_arrays(TABLE, y, valid=6, names=['no', 'yes'], columns=COLUMNS)
  return untrained(dataset, student__kind='multi_head', objective__name='members')


@pytest.fixture(scope='session')
def unnamed() -> Model:
  """A student of a table without names, for regression."""
  return untrained(data.from_arrays(TABLE, TABLE[:, :1] * 3, valid=6))


@pytest.fixture(scope='session')
def image() -> Model:
  """A student of grey images [8, 8, 1] that were floats in [0, 1]."""
  return untrained(tiny.dataset())


@pytest.fixture(scope='session')
def colour() -> Model:
  """A student of colour images [4, 4, 3] that were uint8."""
  x = RANDOM.integers(0, 256, (30, 4, 4, 3)).astype(np.uint8)
  return untrained(data.from_arrays(x, np.arange(30) % 2, valid=4))
