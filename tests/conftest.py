"""Every test runs with strict broadcasting, so that a wrong axis fails instead of growing an array."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
