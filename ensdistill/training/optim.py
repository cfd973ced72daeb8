"""Optimisers and schedules: the one place where an optax chain is built."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ensdistill import names


def schedule(name: str, *, peak: float, steps: int, warmup: float = 0.0) -> optax.Schedule:
  """The learning rate over a run; `warmup` is the fraction of it spent rising to the peak."""
  return names.lookup('schedule', name, SCHEDULES)(peak, steps, warmup)


def _constant(peak, steps, warmup):
  return _warm(optax.constant_schedule(peak), peak, steps, warmup)


def _cosine(peak, steps, warmup):
  """0 to the peak, then a half cosine to 0 (LatentBE)."""
  rising = round(warmup * steps)
  return _warm(optax.cosine_decay_schedule(peak, max(steps - rising, 1)), peak, steps, warmup)


def _step_linear(peak, steps, warmup):
  """Flat to half of the run, linear to a hundredth at nine tenths, flat (Diversity Matters)."""
  half, late = steps // 2, max(steps * 9 // 10, steps // 2 + 1)
  falling = optax.linear_schedule(peak, peak / 100, late - half)
  return _join(
    (_warm(optax.constant_schedule(peak), peak, steps, warmup, start=0.01), falling), (half,)
  )


def _one_cycle(peak, steps, warmup):
  """From a tenth of the peak up and back over two thirds, then to a ten-thousandth of it (EnD²)."""
  third, two = max(steps // 3, 1), max(2 * steps // 3, 2)
  up = optax.linear_schedule(peak / 10, peak, third)
  down = optax.linear_schedule(peak, peak / 10, two - third)
  last = optax.linear_schedule(peak / 10, peak / 10000, max(steps - two, 1))
  return _join((up, down, last), (third, two))


SCHEDULES = {
  'constant': _constant,
  'cosine': _cosine,
  'step_linear': _step_linear,
  'one_cycle': _one_cycle,
}


def _warm(after, peak, steps, warmup, start=0.0):
  """A linear rise from `start` times the peak over the first part of the run."""
  rising = round(warmup * steps)
  if not rising:
    return after
  return _join((optax.linear_schedule(start * peak, peak, rising), after), (rising,))


def _join(schedules, boundaries):
  return optax.join_schedules(schedules, boundaries)


def _sgd(*, momentum=0.9, nesterov=True):
  return optax.trace(momentum, nesterov=nesterov)


def _adam():
  return optax.scale_by_adam()


OPTIMIZERS = {'sgd': _sgd, 'adam': _adam, 'adamw': _adam}
DECAY_ON = ('all', 'kernels')
FACTOR_DECAY = ('none', 'zero', 'one')
VARIANCE = 'log_var'  # the parameter of a member whose variance is no output of its network


def make(
  *,
  name: str,
  rate: float,
  steps: int,
  schedule: str = 'cosine',
  warmup: float = 0.0,
  decay: float = 0.0,
  decay_on: str = 'all',
  clip: float = 0.0,
  group: Callable[[tuple[str, ...]], str] = lambda path: 'shared',
  factor_rate: float = 1.0,
  factor_decay: str = 'none',
  factor_scale: float = 1.0,
  **settings,
) -> optax.GradientTransformation:
  """The chain: clip, scale the factors' gradients, decay, momentum or Adam, learning rates.

  Decay is the L2 penalty's gradient, before the momentum, for 'sgd' and 'adam', and decoupled for
  'adamw'. `group(path)` tells BatchEnsemble's rank-one 'factors' from 'shared' parameters. Factors
  have a rate of their own (`factor_rate` times the shared one), decay to zero, to one or not at
  all, and a gradient multiplied by `factor_scale`. LatentBE: its penalty on a factor r is
  (1/M) decay/2 (1 - r)^2 and the whole gradient of r is then multiplied by M, which leaves
  M * grad + decay * (r - 1): `factor_scale` = M, `factor_decay` = 'one'. Settings: sgd:
  momentum=.9, nesterov=True.
  """
  scale = names.lookup('optimizer', name, OPTIMIZERS)
  names.settings(f'optimizer {name!r}', settings, inspect.signature(scale).parameters)
  names.lookup('decay_on', decay_on, dict.fromkeys(DECAY_ON))
  names.lookup('factor_decay', factor_decay, dict.fromkeys(FACTOR_DECAY))
  is_factor = _mask(lambda path, leaf: group(path) == 'factors')
  decays = _mask(
    lambda path, leaf: (
      group(path) != 'factors'
      and path[-1] != VARIANCE  # which decay would pull towards one
      and (decay_on == 'all' or path[-1] == 'kernel')
    )
  )
  decayed = optax.chain(
    optax.add_decayed_weights(decay, mask=decays) if decay else optax.identity(),
    optax.masked(_pull(decay, {'zero': 0.0, 'one': 1.0}[factor_decay]), is_factor)
    if decay and factor_decay != 'none'
    else optax.identity(),
  )
  return optax.chain(
    optax.clip_by_global_norm(clip) if clip else optax.identity(),
    optax.masked(optax.scale(factor_scale), is_factor) if factor_scale != 1 else optax.identity(),
    decayed if name != 'adamw' else optax.identity(),
    scale(**settings),
    decayed if name == 'adamw' else optax.identity(),
    optax.masked(optax.scale(factor_rate), is_factor) if factor_rate != 1 else optax.identity(),
    optax.scale_by_learning_rate(_rate(schedule, rate, steps, warmup)),
  )


_rate = lambda name, peak, steps, warmup: schedule(name, peak=peak, steps=steps, warmup=warmup)


def _pull(strength: float, towards: float) -> optax.GradientTransformation:
  """Adds strength * (parameter - towards)."""
  add = lambda g, p: jax.tree.map(
    lambda g, p: g + strength * (p - jnp.asarray(towards, p.dtype)), g, p
  )
  return optax.stateless(add)


def _mask(wanted: Callable) -> Callable:
  """A tree of booleans from wanted(path of names, leaf)."""

  def mask(tree):
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: wanted(tuple(key.key for key in path), leaf), tree
    )

  return mask
