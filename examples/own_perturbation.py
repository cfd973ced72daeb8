"""A custom perturbation: student and teacher see mirrored images.

ensdistill train kd_digits:small --import=examples/own_perturbation.py \
  --config.perturb.name=mirror --config.perturb.rate=0.5
"""

import jax
import jax.numpy as jnp

from ensdistill import perturb


def mirror(*, rate: float = 0.5):
  """Mirror a share of the images."""

  def apply(key, x, teacher, student, family, space):
    mirrored_B = jax.random.bernoulli(key, rate, (len(x),))
    return jnp.where(mirrored_B[:, None, None, None], x[:, :, ::-1], x)

  return perturb.Perturbation('mirror', apply, gradient=False)


perturb.PERTURBATIONS['mirror'] = mirror
