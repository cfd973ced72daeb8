import tracemalloc

import numpy as np

from ensdistill.data import moments


def test_moments_are_those_of_float64_whatever_the_block(monkeypatch):
  x = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
  rows = x.reshape(-1, 3) / 255
  for block in (7, 160, 10**6):
    monkeypatch.setattr(moments, '_BLOCK', block)
    mean, std = moments.mean_and_deviation(x)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, rows.std(0), rtol=1e-12)


def test_moments_need_the_memory_of_a_few_blocks(monkeypatch):
  monkeypatch.setattr(moments, '_BLOCK', 10_000)
  x = np.random.default_rng(0).integers(0, 256, (10**6, 3), np.uint8)
  tracemalloc.start()
  try:
    moments.mean_and_deviation(x)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 5 * 10_000 * 3 * 8  # all rows as float64: 24 MB
