"""The logs of steps: sums, the first step that is not finite, rows of dropped updates."""

import jax.numpy as jnp
import numpy as np
import pytest

from ensdistill.training.logs import SKIPS, Logs

NAN = float('nan')


def logged(losses, drops, at=0, logs=None):
  """Return stacked logs of one network after these losses, from step `at` on."""
  if logs is None:
    zero, dropped = {'loss': jnp.float32(0)}, jnp.int32(0) if drops else None
    logs = Logs(zero, jnp.int32(-1), zero, dropped)
  for step, loss in enumerate(losses, at):
    logs = logs.add(jnp.int32(step), jnp.isfinite(loss), {'loss': jnp.float32(loss)})
  return logs


def stacked(*logs):
  """Return the logs of several networks as the host sees them."""
  sums, bad_terms = ({'loss': np.array([getattr(l, field)['loss'] for l in logs])}
                     for field in ('sums', 'bad_terms'))  # fmt: skip
  dropped = np.array([l.dropped for l in logs]) if logs[0].drops else None
  return Logs(sums, np.array([l.bad for l in logs]), bad_terms, dropped)


def test_the_first_bad_step_stays_with_its_terms():
  logs = stacked(logged([1, 2, 3], False), logged([1, float('inf'), NAN], False))
  assert logs.failed(3) == [1]
  assert logs.first_bad(1) == (1, {'loss': float('inf')})
  good = stacked(logged([1, 2, 3], False), logged([3, 4, 5], False))
  assert good.failed(3) == [] and good.means(3) == {'loss': 3.0}


def test_dropped_updates_are_counted_and_left_out_of_the_means():
  logs = stacked(logged([1, NAN, 3, NAN], True), logged([4, 4, 4, 4], True))
  assert logs.bad.tolist() == [3, -1] and logs.failed(4) == []
  assert logs.means(4) == {'loss': 3.0, 'dropped': 2}
  assert stacked(logged([1, 3], True)).means(2) == {'loss': 2.0, 'dropped': 0}


@pytest.mark.parametrize('rows, failed', [(SKIPS, []), (SKIPS + 1, [0])])
def test_a_row_of_dropped_updates_fails_even_if_a_line_is_written_within_it(rows, failed):
  blank = logged([], True)
  logs = logged([1, *[NAN] * 4], True)
  logs = logged([NAN] * (rows - 4), True, 5, logs.emptied(blank))
  assert logs.dropped == rows - 4
  logs = logged([1.0], True, 1 + rows, logs)
  assert stacked(logs).failed(2 + rows) == failed
  if failed:
    assert stacked(logs).first_bad(0)[0] == 1
