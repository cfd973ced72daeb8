"""Perturbations: move inputs to where the teacher's members disagree.

A perturbation sees teacher and student as frozen `Members`. It requests the outputs of the members
that it needs by index, so no other member is computed.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import families, names

# GPU and TPU round the factors of float32 products, unless the precision is 'highest'.
PRECISIONS = ('default', 'high', 'highest')


class Space(NamedTuple):
  """The input space: its bounds and the unit of a step, each a scalar or one value per feature."""

  low: Any = 0.0
  high: Any = 1.0
  # 1/255 for images, standard deviations for tables. A column with unit 0 does not move.
  unit: Any = 1 / 255


def fits_all(family_name: str, student_size: int, teacher_size: int) -> str | None:
  """Return None: the perturbation fits every family, student and teacher."""
  return None


@dataclasses.dataclass(frozen=True)
class Perturbation:
  """One way to move inputs; only `name` and `apply` are required."""

  name: str
  apply: Callable  # (key, x, teacher: Members, student: Members, family, space) -> x
  # (family_name, student_size, teacher_size) -> None, or the misfit and its remedy
  fits: Callable[[str, int, int], str | None] = fits_all
  gradient: bool = True  # whether it differentiates the teacher's outputs by x


def clip(x, space):
  """Return x clipped to the bounds of the space."""
  return jnp.clip(x, _as_row(space.low, x), _as_row(space.high, x))


def ascend(x, gradient, eta, space):
  """Return clip(x + eta sqrt(D) g / |g|) per example: the step that ODS and TDiv-SDiv share.

  Steps are in units of the space: g is the gradient with respect to x / unit, and D is the number
  of features whose unit is not zero. eta is one number, or one per example. The gradient is divided
  by its largest entry before its norm is computed, because confident teachers have gradients of
  1e-24, whose float32 norm is zero. If the gradient is exactly zero, x does not move (LatentBE's
  code gives NaN).
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
  """Return a scalar or a value per feature, broadcast to one example of x: [1, ...]."""
  return jnp.broadcast_to(jnp.asarray(value, x.dtype), x.shape[1:])[None]


def _check(eta, temperature=1.0, precision='highest'):
  """Raise ValueError for settings out of range."""
  for name, value in (('eta', eta), ('temperature', temperature)):
    if not value > 0:
      raise ValueError(
        f"{name}={value} must be positive (for no perturbation set perturb.name='none')"
      )
  names.check('precision of a perturbation', precision, PRECISIONS)


def gaussian(*, eta=1.0):
  """Add noise: x + eta unit eps, eps ~ N(0, 1), clipped; a control of Diversity Matters (2021)."""
  _check(eta)

  def apply(key, x, teacher, student, family, space):
    noise = jax.random.normal(key, x.shape, x.dtype)
    return clip(x + eta * _as_row(space.unit, x) * noise, space)

  return Perturbation('gaussian', apply, gradient=False)


def ods(*, eta=1.0, temperature=1.0, precision='highest'):
  """Apply output diversified sampling, as in Diversity Matters (Nam et al., NeurIPS 2021).

  w ~ U(-1, 1)^{B x K}, ONE teacher j per batch, y = softmax(t_j(x) / T), g = grad_x sum w y;
  x + eta sqrt(D) g / |g|, clipped. For a gaussian teacher, y is its mean and log-variance. The
  authors' code draws one teacher per device; the paper, and this code, draw one per batch.
  """
  return _ods('ods', eta, temperature, precision)


def conf_ods(*, eta=1.0, temperature=1.0, precision='highest'):
  """Apply ODS with its step times the confidence max_k y_k (Diversity Matters, NeurIPS 2021)."""

  def fits(family_name, student_size, teacher_size):
    if families.FAMILIES[family_name].has_classes:
      return None
    return (
      "perturbation 'conf_ods' multiplies its step by the largest class probability, but "
      f"{family_name} outputs have no classes: set perturb.name='ods'"
    )

  return _ods('conf_ods', eta, temperature, precision, fits, scale_by_confidence=True)


def _ods(name, eta, temperature, precision, fits=fits_all, scale_by_confidence=False):
  _check(eta, temperature, precision)

  def apply(key, x, teacher, student, family, space):
    key_member, key_direction = jax.random.split(key)
    one = jax.random.randint(key_member, (1,), 0, teacher.size)

    def predict(x):
      return family.prediction(teacher.outputs(x, one)[:, 0], temperature)

    with jax.default_matmul_precision(precision):
      y_BK, pull_back = jax.vjp(predict, x)
      w_BK = jax.random.uniform(key_direction, y_BK.shape, y_BK.dtype, -1, 1)
      (gradient,) = pull_back(w_BK)
    length = eta * y_BK.max(1) if scale_by_confidence else eta
    return ascend(x, gradient, length, space)

  return Perturbation(name, apply, fits=fits)


def tdiv(*, eta=1.0, precision='highest'):
  """Increase the disagreement of two teachers: TDiv of LatentBE (Nam et al., ICML 2022).

  TDiv = KL(sg p_j || p_i) of one ordered pair i != j per batch, at T = 1. It is the paper's
  cross-entropy -sum_k sg(p_jk) log p_ik minus a constant. Member j needs no gradient.
  """
  _check(eta, precision=precision)

  def fits(family_name, student_size, teacher_size):
    return _two_members('tdiv', 'teacher', teacher_size)

  def apply(key, x, teacher, student, family, space):
    with jax.default_matmul_precision(precision):
      gradient = jax.grad(_disagreement(_draw_pair(key, teacher.size), teacher, family, x))(x)
    return ascend(x, gradient, eta, space)

  return Perturbation('tdiv', apply, fits=fits)


def tdiv_sdiv(*, eta=1.0, precision='highest'):
  """Increase the teachers' disagreement, decrease the student's (LatentBE, Nam et al., ICML 2022).

  g = grad_x (TDiv - SDiv), x + eta sqrt(D) g / |g|, clipped. SDiv is TDiv over student members, at
  running statistics. If teacher and student have the same number of members, they share the pair
  (i, j); otherwise the student draws its own pair.
  """
  _check(eta, precision=precision)

  def fits(family_name, student_size, teacher_size):
    return _two_members('tdiv_sdiv', 'teacher', teacher_size) or _two_members(
      'tdiv_sdiv', 'student', student_size, "perturb.name='tdiv'"
    )

  def apply(key, x, teacher, student, family, space):
    key_teacher, key_student = jax.random.split(key)
    pair = own = _draw_pair(key_teacher, teacher.size)
    if student.size != teacher.size:
      own = _draw_pair(key_student, student.size)
    with jax.default_matmul_precision(precision):
      teacher_div = _disagreement(pair, teacher, family, x)
      student_div = _disagreement(own, student, family, x)
      gradient = jax.grad(lambda x: teacher_div(x) - student_div(x))(x)
    return ascend(x, gradient, eta, space)

  return Perturbation('tdiv_sdiv', apply, fits=fits)


def _draw_pair(key, size):
  """Return an ordered pair of different members, as two indices [1]."""
  return jnp.split(jax.random.choice(key, size, (2,), replace=False), 2)


def _disagreement(pair, network, family, x):
  """Return x -> sum over examples of KL(j || i), with member j held at its outputs for this x."""
  i, j = pair
  held = network.outputs(x, j)

  def total(x):
    return family.kl(held, network.outputs(x, i)).sum()

  return total


def _two_members(name, which, size, instead="perturb.name='ods'"):
  """Return None if there are two members or more, else the misfit and its remedy."""
  if size >= 2:
    return None
  return (
    f'perturbation {name!r} needs at least two members of the {which}, which has {size}: '
    f'set {which}.members or {instead}'
  )


def none() -> None:
  """Return no perturbation."""


PERTURBATIONS = names.Registry(
  'perturbation',
  {
    'none': none,
    'gaussian': gaussian,
    'ods': ods,
    'conf_ods': conf_ods,
    'tdiv': tdiv,
    'tdiv_sdiv': tdiv_sdiv,
  },
)


def make(name, **settings) -> Perturbation | None:
  """Return the perturbation of that name, or None for 'none'.

  Raise ValueError for an unknown name or setting.
  """
  perturbation_of = names.lookup('perturbation', name, PERTURBATIONS)
  names.check_settings(
    f'perturbation {name!r}', settings, inspect.signature(perturbation_of).parameters
  )
  if name == 'none':
    return perturbation_of(**settings)
  return names.build('perturbation', name, Perturbation, perturbation_of, **settings)
