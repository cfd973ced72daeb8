"""What is set before JAX starts."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from ensdistill import runtime
runtime.prepare('')
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: 2 * jnp.roll(y, 1) + x, x).sum())
x, faults = jnp.ones(2**24), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
  before = faults()
  step(x).block_until_ready()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='speaks to glibc')
def test_memory_of_a_step_stays_for_the_next():
  """The last step's page faults; where the user has settings for glibc, it does as they say."""

  def faults(**settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('MALLOC_', 'GLIBC_'))}
    command = [sys.executable, '-c', FAULTS]
    done = subprocess.run(
      command, env=environment | settings, capture_output=True, text=True, check=True
    )
    return int(done.stdout)

  assert faults() < 1000
  assert faults(GLIBC_TUNABLES='glibc.malloc.tcache_count=7') > 10_000
