"""Where it is matched: inputs moved to where the teacher's members disagree.

A perturbation sees teacher and student as frozen `Members` and asks for the outputs of the few
members that it needs, by index, so that no other member is computed.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import names

# GPU and TPU round the factors of float32 products unless asked not to.
PRECISIONS = dict.fromkeys(('default', 'high', 'highest'))


class Space(NamedTuple):
  """The input space: its bounds and the unit of a step in it, scalars or one value per feature."""

  low: Any = 0.0
  high: Any = 1.0
  # 1/255 for images, standard deviations for tables, where 0 is a column that does not move.
  unit: Any = 1 / 255


@dataclasses.dataclass(frozen=True)
class Perturbation:
  """One way to move inputs; only `name` and `apply` have no default."""

  name: str
  apply: Callable  # (key, x, teacher: Members, student: Members, family, space) -> x
  # (family_name, student_size, teacher_size) -> None, or what does not fit and what to set instead
  fits: Callable = lambda family_name, student_size, teacher_size: None


def clip(x, space):
  """x within the bounds of the space."""
  return jnp.clip(x, _as_row(space.low, x), _as_row(space.high, x))


def ascend(x, gradient, eta, space):
  """clip(x + eta sqrt(D) g / |g|), per example: the step common to ODS and TDiv-SDiv.

  Steps are taken, and their length is measured, in units of the space: g is the gradient with
  respect to x / unit, D counts what moves. eta is one number, or one per example. The gradient is
  divided by its largest entry before its norm is taken: the float32 norm of a gradient of 1e-24 is
  zero, and confident teachers get there. A gradient of exactly zero leaves x in place (LatentBE's
  code has NaN).
  """
  unit_1D = _as_row(space.unit, x).reshape(1, -1)
  moving = np.count_nonzero(np.broadcast_to(space.unit, x.shape[1:]))
  g_BD = gradient.reshape(x.shape[0], -1) * (unit_1D / np.max(space.unit) if moving else 0)
  largest_B1 = jnp.abs(g_BD).max(1, keepdims=True)
  g_BD = g_BD / jnp.where(largest_B1 > 0, largest_B1, 1)
  norm_B1 = jnp.linalg.norm(g_BD, axis=1, keepdims=True)
  length_B1 = jnp.reshape(eta, (-1, 1)) * moving**0.5
  step_BD = length_B1 * unit_1D * (g_BD / jnp.where(norm_B1 > 0, norm_B1, 1))
  return clip(x + step_BD.reshape(x.shape), space)


def _as_row(value, x):
  """A scalar, or a value per feature, as one example of x: [1, ...]."""
  return jnp.broadcast_to(jnp.asarray(value, x.dtype), x.shape[1:])[None]


def _check(eta, temperature=1.0, precision='highest'):
  for name, value in (('eta', eta), ('temperature', temperature)):
    if not value > 0:
      raise ValueError(f"{name}={value} must be positive (no step at all: perturb.name='none')")
  names.lookup('precision of a perturbation', precision, PRECISIONS)


def gaussian(*, eta=1.0):
  """x + eta unit eps, eps ~ N(0, 1), clipped: the control of Diversity Matters (NeurIPS 2021)."""
  _check(eta)

  def apply(key, x, teacher, student, family, space):
    noise = jax.random.normal(key, x.shape, x.dtype)
    return clip(x + eta * _as_row(space.unit, x) * noise, space)

  return Perturbation('gaussian', apply)


def ods(*, eta=1.0, temperature=1.0, precision='highest'):
  """Output diversified sampling, as in Diversity Matters (Nam et al., NeurIPS 2021).

  w ~ U(-1, 1)^{B x K}, ONE teacher j a batch, y = softmax(t_j(x) / T), g = grad_x sum w y;
  x + eta sqrt(D) g / |g|, clipped. For a gaussian teacher y is its mean and log-variance. The
  authors' code draws one teacher per device; we follow the paper: one a batch.
  """
  return _ods('ods', eta, temperature, precision, lambda y_BK: 1.0)


def conf_ods(*, eta=1.0, temperature=1.0, precision='highest'):
  """ODS whose step is multiplied by the confidence max_k y_k (Diversity Matters, NeurIPS 2021)."""

  def fits(family_name, student_size, teacher_size):
    if family_name != 'categorical':
      return (
        f"perturbation 'conf_ods' scales its step by the largest class probability, which "
        f"{family_name} outputs do not have: set perturb.name='ods'"
      )

  return _ods('conf_ods', eta, temperature, precision, lambda y_BK: y_BK.max(1), fits)


def _ods(name, eta, temperature, precision, confidence, fits=Perturbation.fits):
  _check(eta, temperature, precision)

  def apply(key, x, teacher, student, family, space):
    key_member, key_direction = jax.random.split(key)
    one = jax.random.randint(key_member, (1,), 0, teacher.size)
    with jax.default_matmul_precision(precision):
      predict = lambda x: family.prediction(teacher.outputs(x, one)[:, 0], temperature)
      y_BK, pull_back = jax.vjp(predict, x)
      w_BK = jax.random.uniform(key_direction, y_BK.shape, y_BK.dtype, -1, 1)
      (gradient,) = pull_back(w_BK)
    return ascend(x, gradient, eta * confidence(y_BK), space)

  return Perturbation(name, apply, fits=fits)


def tdiv(*, eta=1.0, precision='highest'):
  """Up in the disagreement of two teachers: TDiv alone, of LatentBE (Nam et al., ICML 2022).

  TDiv = KL(sg p_j || p_i) of one ordered pair i != j a batch, at T = 1: the paper's cross-entropy
  -sum_k sg(p_jk) log p_ik less a constant. Member j only runs forward.
  """
  _check(eta, precision=precision)

  def fits(family_name, student_size, teacher_size):
    return _two_members('tdiv', 'teacher', teacher_size)

  def apply(key, x, teacher, student, family, space):
    with jax.default_matmul_precision(precision):
      gradient = jax.grad(_disagreement(_pair(key, teacher.size), teacher, family, x))(x)
    return ascend(x, gradient, eta, space)

  return Perturbation('tdiv', apply, fits=fits)


def tdiv_sdiv(*, eta=1.0, precision='highest'):
  """Up in the teachers' disagreement, down in the student's (LatentBE, Nam et al., ICML 2022).

  g = grad_x (TDiv - SDiv), x + eta sqrt(D) g / |g|, clipped; SDiv is TDiv over student members, at
  running statistics. Teacher and student share the pair (i, j) where both have as many members;
  otherwise the student draws its own.
  """
  _check(eta, precision=precision)

  def fits(family_name, student_size, teacher_size):
    return _two_members('tdiv_sdiv', 'teacher', teacher_size) or _two_members(
      'tdiv_sdiv', 'student', student_size, "perturb.name='tdiv'"
    )

  def apply(key, x, teacher, student, family, space):
    key_teacher, key_student = jax.random.split(key)
    pair = _pair(key_teacher, teacher.size)
    own = pair if student.size == teacher.size else _pair(key_student, student.size)
    with jax.default_matmul_precision(precision):
      tdiv = _disagreement(pair, teacher, family, x)
      sdiv = _disagreement(own, student, family, x)
      gradient = jax.grad(lambda x: tdiv(x) - sdiv(x))(x)
    return ascend(x, gradient, eta, space)

  return Perturbation('tdiv_sdiv', apply, fits=fits)


def _pair(key, size):
  """One ordered pair of different members, as two indices [1]."""
  return jnp.split(jax.random.choice(key, size, (2,), replace=False), 2)


def _disagreement(pair, network, family, x):
  """x -> sum over examples of KL(held j || i); j is computed here, outside any gradient."""
  i, j = pair
  held = network.outputs(x, j)
  return lambda x: family.kl(held, network.outputs(x, i)).sum()


def _two_members(name, which, size, instead="perturb.name='ods'"):
  if size < 2:
    return (
      f'perturbation {name!r} needs two members of the {which}, which has {size}: '
      f'set {which}.members or {instead}'
    )


PERTURBATIONS = {
  'none': lambda: None,
  'gaussian': gaussian,
  'ods': ods,
  'conf_ods': conf_ods,
  'tdiv': tdiv,
  'tdiv_sdiv': tdiv_sdiv,
}


def make(name, **settings) -> Perturbation | None:
  """The perturbation of that name, None for 'none'; an unknown name or setting fails."""
  builder = names.lookup('perturbation', name, PERTURBATIONS)
  names.settings(f'perturbation {name!r}', settings, inspect.signature(builder).parameters)
  return builder(**settings)
