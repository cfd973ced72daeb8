"""Every test runs with strict broadcasting, so that a wrong axis fails instead of growing an array.

Tests compile far more than they run, so XLA optimises little here, and what it compiled is kept for
the next time.
"""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax

from ensdistill import runtime

quickly = ['--xla_backend_optimization_level=0']
if jax.__version_info__[:2] == (0, 10):  # later ones do not know it
  quickly.append('--xla_cpu_use_fusion_emitters=false')
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *quickly])
runtime.prepare()
jax.config.update('jax_numpy_rank_promotion', 'raise')
