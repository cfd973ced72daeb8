"""Learning rates per step and per epoch."""

import numpy as np
import pytest

from ensdistill.training import optim


def test_the_rate_of_diversity_matters_per_epoch():
  """Epochs 1 to 300: .01 at 1, linear to 1 at 5, 1 to 150, linear to .01 at 270, flat."""
  rate = optim.rates('step_linear', peak=2.0, steps=300 * 10, warmup=5 / 300, epoch=10)
  epochs = np.arange(1, 301)
  expected = 2 * np.interp(epochs, [1, 5, 150, 270, 300], [0.01, 1, 1, 0.01, 0.01])
  for within in (0, 9):
    found = [float(rate(10 * (epoch - 1) + within)) for epoch in epochs]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('name', optim.SCHEDULES)
def test_a_rate_per_epoch_is_near_the_rate_per_step(name):
  by_step = optim.rates(name, peak=1.0, steps=6000, epoch=0)
  by_epoch = optim.rates(name, peak=1.0, steps=6000, epoch=20)
  steps = np.arange(0, 6000, 11)
  np.testing.assert_allclose(
    [float(by_epoch(s)) for s in steps], [float(by_step(s)) for s in steps], atol=0.02
  )
  assert len({float(by_epoch(s)) for s in range(40, 60)}) == 1
