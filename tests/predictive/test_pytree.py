"""Predictive distributions as pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensdistill import predictive


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def uncertainties(p):
  return p.total(), p.data(), p.knowledge()


CASES = [
  predictive.Mixture(jax.nn.log_softmax(draw(7, 16, 4, 5))),
  predictive.Dirichlet(jnp.asarray(draw(8, 16, 5))),
  predictive.GaussianMixture(*jnp.asarray(draw(9, 2, 16, 4, 2))),
  predictive.NormalWishart(*jnp.asarray(draw(10, 4, 16, 2))),
]


@pytest.mark.parametrize('p', CASES, ids=lambda p: type(p).__name__)
def test_distributions_pass_through_jit_and_tree_map(p):
  """A distribution with numpy fields, on the host, has the same uncertainties."""
  host = jax.tree.map(np.asarray, p)
  for plain, jitted, numpy in zip(uncertainties(p), jax.jit(uncertainties)(p), uncertainties(host)):
    assert plain.shape == (16,)
    np.testing.assert_allclose(jitted, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numpy, plain, rtol=1e-6)
  turned = jax.tree.map(lambda a: a[::-1], p)
  np.testing.assert_allclose(turned.total(), p.total()[::-1], rtol=1e-6)
