"""Costs: timings with their spread, and one measurement for networks of equal architecture."""

import jax.numpy as jnp
import numpy as np

from ensdistill.evaluation import cost


def forward(variables, x):
  return x @ variables['params']['w']


def test_times_have_a_spread_and_equal_architectures_share_them():
  models = {
    name: (forward, {'params': {'w': jnp.ones((4, width))}}, 4 * width)
    for name, width in (('a', 2), ('b', 3), ('c', 2))
  }
  found = cost.of_models(models, (4,), np.float32, {'a': 'c'})
  times = ('ms_per_example', 'ms_per_example/spread', 'ms_per_example/batch_1')
  assert [found['a'][key] for key in times] == [found['c'][key] for key in times]
  assert found['b']['params'] == 12 and found['b']['ms_per_example'] > 0
  assert all(model['ms_per_example/batch_1/spread'] >= 0 for model in found.values())


def test_the_spread_is_half_the_interquartile_range(monkeypatch):
  ticks = iter(np.cumsum([0, *sum([[t, 1] for t in (1, 2, 3, 4, 5)], [])]))
  monkeypatch.setattr(cost.time, 'perf_counter', lambda: float(next(ticks)))
  program = cost.Timed(lambda: jnp.zeros(()), (), 10, None)
  found = cost.milliseconds({'a': program}, repeats=5)['a']
  np.testing.assert_allclose(found, [300, 100])
