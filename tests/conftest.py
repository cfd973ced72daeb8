"""Every test runs with strict broadcasting, so that a wrong axis fails instead of growing an array.

Tests compile far more than they run, so XLA optimises little here, and what it compiled is kept for
the next time.
"""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_backend_optimization_level=0'

import jax

from ensdistill import runtime

runtime.prepare()
jax.config.update('jax_numpy_rank_promotion', 'raise')
