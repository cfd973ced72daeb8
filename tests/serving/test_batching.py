"""Batches: their sizes, what waits and how long, what is refused, and the end."""

import threading
import time

import numpy as np
import pytest

from ensdistill.serving import batching
from ensdistill.serving.refused import Refused


def rows(*values):
  return np.array(values, np.float32)[:, None]


class Double:
  """Predicts twice the input, records the batches, and waits where it is told to."""

  def __init__(self):
    self.batches, self.go = [], threading.Event()
    self.go.set()

  def __call__(self, x, members):
    self.go.wait(20)
    self.batches.append((x[:, 0].tolist(), members))
    return 2 * x


def batcher(predict, **settings):
  found = batching.Batcher(predict, **{'max_batch': 8, 'max_wait': 0.0, 'capacity': 16, **settings})
  found.start()
  return found


def of(future):
  part = future.result(20)
  return part.result[part.start : part.stop, 0].tolist()


@pytest.mark.parametrize(
  ('largest', 'found'), [(1, (1,)), (8, (1, 2, 4, 8)), (100, (1, 2, 4, 8, 16, 32, 64, 100))]
)
def test_sizes(largest, found):
  assert batching.sizes(largest) == found


def test_every_request_gets_its_own_rows_padded_to_a_known_size():
  predict = Double()
  own = batcher(predict, max_wait=0.3)
  futures = [own.submit(rows(1)), own.submit(rows(2, 3)), own.submit(rows(4, 5))]
  assert [[of(part) for part in parts] for parts in futures] == [[[2]], [[4, 6]], [[8, 10]]]
  assert predict.batches == [([1, 2, 3, 4, 5, 5, 5, 5], False)]
  own.close()


def test_a_full_batch_does_not_wait():
  own, began = batcher(Double(), max_wait=20), time.monotonic()
  assert [of(part) for part in own.submit(rows(*range(8)))] == [[2 * k for k in range(8)]]
  assert time.monotonic() - began < 5
  own.close()


def test_a_request_waits_at_most_max_wait():
  own, began = batcher(Double(), max_wait=0.2), time.monotonic()
  of(own.submit(rows(1))[0])
  assert 0.19 < time.monotonic() - began < 5
  own.close()


def test_many_rows_become_parts():
  predict = Double()
  own = batcher(predict)
  parts = own.submit(rows(*range(11)))
  assert sum(map(of, parts), []) == [2.0 * k for k in range(11)]
  assert [len(batch) for batch, _ in predict.batches] == [8, 4]
  own.close()


def test_members_are_computed_for_batches_that_ask():
  predict = Double()
  own = batcher(predict)
  for members in (True, False):
    of(own.submit(rows(1), members=members)[0])
  assert [members for _, members in predict.batches] == [True, False]
  own.close()


def test_beyond_the_capacity_is_refused_and_then_served():
  predict = Double()
  own = batcher(predict)
  predict.go.clear()
  first = own.submit(rows(0))
  while own.rows:
    time.sleep(0.01)
  waiting = [own.submit(rows(k, k)) for k in range(8)]
  with pytest.raises(Refused, match='16 rows wait') as error:
    own.submit(rows(1))
  assert error.value.status == 503 and error.value.retry >= 1
  predict.go.set()
  assert [of(part) for part in first] == [[0]]
  assert [of(parts[0]) for parts in waiting] == [[2 * k, 2 * k] for k in range(8)]
  assert of(own.submit(rows(1))[0]) == [2]
  own.close()


def test_a_large_request_fits_behind_a_small_one():
  own = batcher(Double(), capacity=4, max_wait=20)
  futures = own.submit(rows(0)) + own.submit(rows(*range(1, 10)))
  with pytest.raises(Refused, match='10 rows wait already, the limit is 4'):
    own.submit(rows(1))
  own.close()
  assert sum(map(of, futures), []) == [2 * k for k in range(10)]


def test_a_request_that_was_given_up_is_not_predicted():
  predict = Double()
  own = batcher(predict)
  predict.go.clear()
  first = own.submit(rows(0))
  while own.rows:
    time.sleep(0.01)
  (given_up,) = own.submit(rows(1))
  assert given_up.cancel()
  predict.go.set()
  of(first[0])
  of(own.submit(rows(2))[0])
  assert 1.0 not in sum((batch for batch, _ in predict.batches), [])
  own.close()


def test_an_error_is_that_of_its_batch_alone():
  def predict(x, members):
    if x[0, 0] < 0:
      raise RuntimeError('broken')
    return x

  own = batcher(predict)
  with pytest.raises(RuntimeError, match='broken'):
    own.submit(rows(-1))[0].result(20)
  assert of(own.submit(rows(1))[0]) == [1]
  own.close()


def test_closing_predicts_what_waits_and_refuses_the_rest():
  predict = Double()
  own = batcher(predict, max_wait=20)
  futures = own.submit(rows(1)) + own.submit(rows(2))
  own.close()
  assert [of(future) for future in futures] == [[2], [4]]
  with pytest.raises(Refused, match='stopping'):
    own.submit(rows(1))
