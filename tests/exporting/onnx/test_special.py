"""Functions that ONNX lacks, against SciPy in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax import lax
from onnx_models import model, run

pytest.importorskip('onnxruntime')

SPREAD = np.concatenate([-np.logspace(-30, 1, 300), np.logspace(-30, 8, 400), [0]])


def found(function, x):
  x = x.astype(np.float32)[:, None]
  return run(model(function, x), x)[:, 0], x[:, 0].astype(np.float64)


def test_expm1_keeps_small_values():
  got, x = found(jnp.expm1, np.clip(SPREAD, -50, 80))
  np.testing.assert_allclose(got, np.expm1(x), rtol=1e-6)


def test_log1p_keeps_small_values():
  got, x = found(jnp.log1p, SPREAD[SPREAD > -1])
  np.testing.assert_allclose(got, np.log1p(x), rtol=1e-6)


def test_digamma():
  got, x = found(lax.digamma, SPREAD[SPREAD > 1e-6])
  np.testing.assert_allclose(got, scipy.special.digamma(x), rtol=1e-6, atol=1e-6)
  got, x = found(lax.digamma, -np.linspace(0.1, 5.1, 50))
  np.testing.assert_allclose(got, scipy.special.digamma(x), rtol=1e-4, atol=1e-5)


def test_lgamma():
  got, x = found(lax.lgamma, SPREAD[SPREAD > 1e-6])
  np.testing.assert_allclose(got, scipy.special.gammaln(x), rtol=2e-6, atol=2e-6)
  got, x = found(lax.lgamma, -np.linspace(0.1, 5.1, 50))
  np.testing.assert_allclose(got, scipy.special.gammaln(x), rtol=1e-4, atol=1e-5)
