"""Where it is matched: inputs moved to where the teacher's members disagree."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ensdistill import names


class Space(NamedTuple):
  """The input space: its bounds and the unit of a step in it, scalars or one value per feature."""

  low: Any = 0.0
  high: Any = 1.0
  unit: Any = 1 / 255  # 1/255 for images, standard deviations for tables


@dataclasses.dataclass(frozen=True)
class Perturbation:
  """One way to move inputs; only `name` and `apply` have no default."""

  name: str
  apply: Callable  # (key, x, teacher: Members, student: Members, family, space) -> x
  needs_teacher: bool = False  # differentiates the teacher: refused with stored outputs only
  # (family_name, student_size, teacher_size) -> None, or what does not fit and what to set instead
  fits: Callable = lambda family_name, student_size, teacher_size: None


def clip(x, space):
  return jnp.clip(x, _like(space.low, x), _like(space.high, x))


def _like(value, x):
  """A scalar or per-feature value at the rank of x."""
  return jnp.broadcast_to(jnp.asarray(value, x.dtype), x.shape[1:])[None]


def _gaussian(*, eta=1.0):
  def apply(key, x, teacher, student, family, space):
    return clip(x + eta * _like(space.unit, x) * jax.random.normal(key, x.shape, x.dtype), space)

  return Perturbation('gaussian', apply)


PERTURBATIONS = {'none': lambda: None, 'gaussian': _gaussian}


def make(name, **settings) -> Perturbation | None:
  """The perturbation of that name, None for 'none'; an unknown name or setting fails."""
  builder = names.lookup('perturbation', name, PERTURBATIONS)
  names.settings(f'perturbation {name!r}', settings, inspect.signature(builder).parameters)
  return builder(**settings)
