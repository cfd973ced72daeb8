"""What an objective is, and what several of them share."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Objective:
  """One way to match a teacher; only `name` and `loss` have no default."""

  name: str
  # (family, outputs_BMO, teacher_outputs_BMO, **schedule(progress)) -> loss_B, logs;
  # None: nothing is matched, the student learns from labels alone.
  loss: Callable | None
  label_loss: Callable = lambda family, outputs, labels: family.label_loss(outputs, labels)
  label_logs: Callable = lambda family, outputs: {}  # logged beside label_loss
  width: Callable = lambda family, n: family.width(n)
  predictive: Callable = lambda family, outputs: family.predictive(outputs)
  # (family_name, student_kind, student_size, teacher_size) -> None, or what does not fit and what
  # to set instead
  fits: Callable = lambda family_name, student_kind, student_size, teacher_size: None
  schedule: Callable = lambda progress: {}  # of progress in [0, 1], for keyword values of loss


def only_member(outputs_B1O):
  """The outputs [B, O] of a student that is one network."""
  if outputs_B1O.shape[1] != 1:
    raise ValueError(f'needs a student of one member, not {outputs_B1O.shape[1]}')
  return outputs_B1O[:, 0]


def fractions(held, end):
  """Refuses the ends of a schedule that are no fractions of a run."""
  if not 0 <= held <= end <= 1:
    raise ValueError(f'held={held}, end={end}: fractions of the run, 0 <= held <= end <= 1')


def clip(values, limit):
  """Values clipped at +-limit, and the share of them that was."""
  return values.clip(-limit, limit), (jnp.abs(values) > limit).mean(dtype=jnp.float32)


def spread(family, student, teacher_outputs_BMO=None):
  """Logged: knowledge uncertainty of the student and of its teacher, if there is one."""
  if teacher_outputs_BMO is None:
    return {'knowledge': student.knowledge()}
  teacher = family.predictive(teacher_outputs_BMO)
  return {'knowledge': student.knowledge(), 'teacher_knowledge': teacher.knowledge()}


def one_network(name, family, instead, *, least_members=2):
  """`fits` of an objective under which one network's outputs stand for a whole ensemble."""

  def fits(family_name, student_kind, student_size, teacher_size):
    if family_name != family:
      return (
        f'objective {name!r} is for {family} outputs, which this data set does not have '
        f'({family_name}): set objective.name={instead!r} or mean'
      )
    if student_size != 1:
      return (
        f'objective {name!r} makes the outputs of one network a distribution over members, but '
        f"student {student_kind!r} has {student_size}: set student.kind='single' or "
        "objective.name='members'"
      )
    if teacher_size < least_members:
      return (
        f"objective {name!r} is fitted to the spread of the teacher's members, of which there is "
        f"{teacher_size}: set teacher.members to 2 or more, or objective.name='mean'"
      )

  return fits


def positive(**settings):
  """Refuses settings that must be positive and are not."""
  for name, value in settings.items():
    if not value > 0:
      raise ValueError(f'{name}={value} must be positive')
