"""Optimisers and schedules: the one place where an optax chain is built."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ensdistill import names

# A schedule is a function of a count from `first` to `steps`. It counts steps, from 0, or epochs,
# from 1.


def _constant(peak, steps, warmup, first):
  return _warm(optax.constant_schedule(peak), peak, steps, warmup, first)


def _cosine(peak, steps, warmup, first):
  """Return a linear warm-up from 0 to the peak, then half a cosine down to 0 (LatentBE)."""
  rising = round(warmup * steps)
  falling = optax.cosine_decay_schedule(peak, max(steps - rising, 1))
  return _warm(falling, peak, steps, warmup, first)


def _step_linear(peak, steps, warmup, first):
  """Return the schedule of Diversity Matters: constant, then a linear decay, then constant.

  The decay to a hundredth of the peak takes from half to nine tenths of the steps.
  """
  half, late = steps // 2, max(steps * 9 // 10, steps // 2 + 1)
  falling = optax.linear_schedule(peak, peak / 100, late - half)
  flat = _warm(optax.constant_schedule(peak), peak, steps, warmup, first, start=0.01)
  return optax.join_schedules((flat, falling), (half,))


def _one_cycle(peak, steps, warmup, first):
  """Return the schedule of EnD²: from a tenth of the peak up to it and back, then further down.

  Each part takes a third of the steps and is linear; the last ends at a ten-thousandth.
  """
  third, two = max(steps // 3, 1), max(2 * steps // 3, 2)
  up = optax.linear_schedule(peak / 10, peak, third)
  down = optax.linear_schedule(peak, peak / 10, two - third)
  last = optax.linear_schedule(peak / 10, peak / 10000, max(steps - two, 1))
  return optax.join_schedules((up, down, last), (third, two))


SCHEDULES = {
  'constant': _constant,
  'cosine': _cosine,
  'step_linear': _step_linear,
  'one_cycle': _one_cycle,
}


def _warm(after, peak, steps, warmup, first, start=0.0):
  """Return `after`, preceded by a linear warm-up from `start` times the peak."""
  rising = round(warmup * steps)
  if not rising:
    return after
  rise = optax.linear_schedule(start * peak, peak, max(rising - first, 1), transition_begin=first)
  return optax.join_schedules((rise, after), (rising,))


def rates(
  name: str, *, peak: float, steps: int, warmup: float = 0.0, epoch: int = 0
) -> optax.Schedule:
  """Return the learning rate as a function of the step.

  With `epoch` > 0, the number of steps in an epoch, the rate is constant within an epoch. It then
  follows the schedule over epochs 1, 2, ..., as PyTorch's schedulers do.
  """
  make_schedule = names.lookup('schedule', name, SCHEDULES)
  if not epoch:
    return make_schedule(peak, steps, warmup, 0)
  by_epoch = make_schedule(peak, -(-steps // epoch), warmup, 1)
  return lambda step: by_epoch(step // epoch + 1)


def _sgd(*, momentum=0.9, nesterov=True):
  return optax.trace(momentum, nesterov=nesterov)


def _adam():
  return optax.scale_by_adam()


OPTIMIZERS = {'sgd': _sgd, 'adam': _adam, 'adamw': _adam}
DECAY_ON = ('all', 'kernels')
FACTOR_DECAY = ('none', 'zero', 'one')
VARIANCE = 'log_var'  # the parameter of a member with one variance for all inputs


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
  epoch: int = 0,
  group: Callable[[tuple[str, ...]], str] | None = None,
  factor_rate: float = 1.0,
  factor_decay: str = 'none',
  factor_scale: float = 1.0,
  **settings,
) -> optax.GradientTransformation:
  """Return the chain: clip, scale the factors' gradients, decay, momentum or Adam, learning rates.

  Decay is the L2 penalty's gradient, before the momentum, for 'sgd' and 'adam', and decoupled for
  'adamw'. `group(path)` returns 'factors' for BatchEnsemble's rank-one factors and 'shared' for
  other parameters; without it all parameters are shared. Factors have a rate of their own
  (`factor_rate` times the shared one), decay to zero, to one or not at all, and a gradient that is
  multiplied by `factor_scale`. LatentBE has the penalty (1/M) decay/2 (1 - r)^2 on a factor r and
  multiplies the whole gradient of r by M, which gives M * grad + decay * (r - 1): `factor_scale` =
  M, `factor_decay` = 'one'. With `epoch`, the steps in an epoch, the rate changes once per epoch.
  Settings of sgd: momentum=.9, nesterov=True.
  """
  scale = names.lookup('optimizer', name, OPTIMIZERS)
  names.check_settings(f'optimizer {name!r}', settings, inspect.signature(scale).parameters)
  names.check('decay_on', decay_on, DECAY_ON)
  names.check('factor_decay', factor_decay, FACTOR_DECAY)
  learning_rates = rates(schedule, peak=rate, steps=steps, warmup=warmup, epoch=epoch)

  def in_factors(path):
    return group is not None and group(path) == 'factors'

  def in_decayed(path):
    if in_factors(path) or path[-1] == VARIANCE:  # decay would pull a variance towards one
      return False
    return decay_on == 'all' or path[-1] == 'kernel'

  is_factor, decays = _mask(in_factors), _mask(in_decayed)
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
    optax.scale_by_learning_rate(learning_rates),
  )


def _pull(strength: float, towards: float) -> optax.GradientTransformation:
  """Return the transformation that adds strength * (parameter - towards) to a gradient."""

  def add(gradient, parameter):
    return gradient + strength * (parameter - jnp.asarray(towards, parameter.dtype))

  return optax.stateless(lambda gradients, parameters: jax.tree.map(add, gradients, parameters))


def _mask(wanted: Callable) -> Callable:
  """Return the function from a tree to a tree of booleans wanted(path of names)."""

  def of_leaf(path, leaf):
    del leaf
    return wanted(tuple(key.key for key in path))

  def mask(tree):
    return jax.tree_util.tree_map_with_path(of_leaf, tree)

  return mask
