"""The Objective, and what several objectives share."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp


def _label_loss(family, outputs, labels):
  return family.label_loss(outputs, labels)


def _no_logs(family, outputs):
  return {}


def _width(family, n):
  return family.width(n)


def _predictive(family, outputs):
  return family.predictive(outputs)


def _always_fits(family_name, student_kind, student_size, teacher_size):
  return None


def _constant(progress):
  return {}


@dataclasses.dataclass(frozen=True)
class Objective:
  """One way to match a teacher, as functions; by default, those of the family.

  Attributes:
    loss: (family, outputs_BMO, teacher_outputs_BMO, **schedule(progress)) -> loss_B, logs. None
      matches nothing: the student learns from labels alone.
    label_loss: (family, outputs_BMO, labels) -> loss_B.
    label_logs: (family, outputs_BMO) -> values that are logged beside label_loss.
    width: (family, number of classes or targets) -> number of outputs.
    predictive: (family, outputs_BMO) -> predictive distribution.
    fits: (family_name, student_kind, student_size, teacher_size) -> None, or a message that says
      what does not fit and what to set instead.
    schedule: progress in [0, 1] -> keyword values of loss.
  """

  name: str
  loss: Callable | None
  label_loss: Callable = _label_loss
  label_logs: Callable = _no_logs
  width: Callable = _width
  predictive: Callable = _predictive
  fits: Callable = _always_fits
  schedule: Callable = _constant


def with_members(outputs, teacher_outputs, ratio: int = 1):
  """Return outputs of student and teacher as [B, M, O], where [B, O] means one member.

  `ratio` is the student's number of outputs over the teacher's. Other shapes are refused. Both are
  float32 or better, so that softmax and losses are.
  """
  found = []
  for who, array in (('the student', outputs), ('the teacher', teacher_outputs)):
    array = jnp.asarray(array)
    array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    if array.ndim not in (2, 3):
      raise ValueError(
        f'outputs of {who} have shape {array.shape}: give [B, O] for one network, or [B, M, O]'
      )
    found.append(array if array.ndim == 3 else array[:, None])
  ours, theirs = found
  expected = theirs.shape[0], ratio * theirs.shape[2]
  if (ours.shape[0], ours.shape[2]) != expected:
    raise ValueError(
      f'outputs of the student have shape {jnp.shape(outputs)}, those of the teacher '
      f'{jnp.shape(teacher_outputs)}: the student needs B = {expected[0]} examples and '
      f'O = {expected[1]} outputs'
    )
  return ours, theirs


def only_member(outputs_B1O):
  """Return the outputs [B, O] of a student of one member."""
  if outputs_B1O.shape[1] != 1:
    raise ValueError(f'the objective needs a student of one member, not {outputs_B1O.shape[1]}')
  return outputs_B1O[:, 0]


def ramp(progress, held, end):
  """Return 0 until `held`, then a linear rise to 1 at `end`, then 1."""
  return jnp.clip((progress - held) / max(end - held, 1e-6), 0, 1)


def annealed(progress, start, held=1 / 3, end=2 / 3):
  """Return `start` until `held`, then a linear fall to 1 at `end` (EnD^2: epochs 30, 60 of 90)."""
  return start - (start - 1) * ramp(progress, held, end)


def check_ramp(held, end):
  """Refuse a ramp whose ends are not fractions of a run."""
  if not 0 <= held <= end <= 1:
    raise ValueError(
      f'held={held}, end={end} must be fractions of the run with 0 <= held <= end <= 1'
    )


def clip(values, limit):
  """Return values clipped at +-limit, and the share of them that was clipped.

  The gradient of a clipped value leads back into the interval, see `_clip`.
  """
  return _clip(values, limit), (jnp.abs(values) > limit).mean(dtype=jnp.float32)


# Bounds of the gradient beyond the limit. LEAST is relative to the value, so that float32 resolves
# the step of SGD. MOST: the gradient at log alpha = 60 may be as large as e^60. Its square
# overflows, and a gradient that is clipped by its norm would be zero.
LEAST, MOST = 2**-14, 100.0
INSIDE = 1e10  # the largest gradient within the interval, for the same reason


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _clip(values, limit):
  """Clip values at +-limit; beyond it, the gradient is such that descent leads back.

  The usual gradient is zero there, so a runaway output would never return. Here it is the gradient
  at the limit, with the sign that leads back and a magnitude from LEAST |value| to MOST.
  Within the interval the gradient is the usual one, up to INSIDE.
  """
  return values.clip(-limit, limit)


def _clip_forward(values, limit):
  return _clip(values, limit), values


def _clip_backward(limit, values, gradient):
  least = jnp.minimum(LEAST * jnp.abs(values), MOST)
  size = jnp.where(jnp.isnan(gradient), 0, jnp.abs(gradient)).clip(least, MOST)
  usual = gradient.clip(-INSIDE, INSIDE)
  return (jnp.where(jnp.abs(values) > limit, jnp.sign(values) * size, usual),)


_clip.defvjp(_clip_forward, _clip_backward)


def knowledge_logs(family, student, teacher_outputs_BMO=None):
  """Return the knowledge uncertainty of the student, and of its teacher if there is one."""
  if teacher_outputs_BMO is None:
    return {'knowledge': student.knowledge()}
  teacher = family.predictive(teacher_outputs_BMO)
  return {'knowledge': student.knowledge(), 'teacher_knowledge': teacher.knowledge()}


def fits_one_network(name, family, instead, *, least_members=2):
  """Return `fits` of an objective whose outputs of one network describe a whole ensemble."""

  def fits(family_name, student_kind, student_size, teacher_size):
    if family_name != family.name:
      return (
        f'objective {name!r} is for {family.name} outputs, but this data set has {family_name} '
        f'outputs: set objective.name={instead!r} or mean'
      )
    if student_size != 1:
      return (
        f'objective {name!r} needs a student of one member, but student {student_kind!r} has '
        f"{student_size}: set student.kind='single' or objective.name='members'"
      )
    if teacher_size < least_members:
      return (
        f"objective {name!r} is fitted to the differences between the teacher's members, but there "
        f"is only {teacher_size}: set teacher.members to 2 or more, or objective.name='mean'"
      )

  return fits


def check_positive(**settings):
  """Refuse settings that are not positive."""
  for name, value in settings.items():
    if not value > 0:
      raise ValueError(f'{name}={value} must be positive')
