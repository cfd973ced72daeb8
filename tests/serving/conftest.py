"""Students with random weights behind one server."""

import numpy as np
import pytest
import servers
import tiny

from ensdistill import data, export

RANDOM = np.random.default_rng(0)
COLUMNS = ['age', 'height', 'weight']
TABLE = (RANDOM.random((200, 3)) * [50, 1, 100] + [20, 1, 40]).astype(np.float32)


def untrained(dataset, **changes):
  plan = tiny.plan(tiny.config(**changes), dataset)
  return export.model(plan, tiny.untrained(plan)[1])


HEADS = dict(student__kind='multi_head', student__members=3, objective__name='members')


@pytest.fixture(scope='session')
def students():
  """Students of every kind of input and output, by name."""
  y = (TABLE[:, 0] > 45).astype(int)
  table = data.from_arrays(TABLE, y, valid=60, names=['no', 'yes'], columns=COLUMNS)
  values = data.from_arrays(TABLE, TABLE[:, :1] * 3, valid=60)
  colours = RANDOM.integers(0, 256, (30, 4, 4, 3)).astype(np.uint8)
  colour = data.from_arrays(colours, np.arange(30) % 2, valid=4)
  return {
    'digits': untrained(tiny.dataset(), **HEADS),
    'table': untrained(table, **HEADS),
    'values': untrained(values, **HEADS),
    'single': untrained(values),
    'colour': untrained(colour).with_calibration(None),
  }


@pytest.fixture(scope='session')
def running(students):
  """A server of all of them."""
  with servers.Running(students.items(), timeout_s=5, max_body_mb=1) as found:
    yield found
