"""Objectives that match outputs directly: mixture with mixture, or member with member.

They work for every family, which defines the divergence, and for every student.
"""

from functools import partial

from ensdistill import families
from ensdistill.objectives.objective import (
  Objective,
  annealed,
  check_positive,
  check_ramp,
  knowledge_logs,
  with_members,
)


def mean(logits_BMK, teacher_logits_BMK, temperature=1.0, *, family=families.categorical):
  """Return T^2 KL(mean teacher || mean student): knowledge distillation, EnD.

  On both sides the mean is that of the tempered members, (1/M) sum_m softmax(t_m / T). Several
  student members are therefore compared as a mixture. The papers write the cross-entropy, which
  differs by the teacher's entropy. EnD's code averages over B and K; we sum over K. EnD's
  temperature falls to 1 in the course of a run (see `make_mean`).

  Example:
    >>> teacher_logits_BMK = jnp.array([[[2.0, 0.0], [0.0, 2.0]]])
    >>> abs(round(float(mean(jnp.zeros((1, 2)), teacher_logits_BMK)), 4))  # the mean is uniform
    0.0
  """
  logits_BMK, teacher_logits_BMK = with_members(logits_BMK, teacher_logits_BMK)
  return mean_loss(family, logits_BMK, teacher_logits_BMK, temperature)[0].mean()


def mean_loss(family, outputs_BMO, teacher_outputs_BMO, temperature=1.0):
  """Return the loss of `mean` per example, and the logged terms."""
  teacher_B1O = family.mixture(teacher_outputs_BMO, temperature)
  loss_B1 = family.kl(teacher_B1O, family.mixture(outputs_BMO, temperature), temperature)
  return loss_B1[:, 0], knowledge_logs(family, family.predictive(outputs_BMO), teacher_outputs_BMO)


def members(logits_BMK, teacher_logits_BMK, temperature=1.0, *, family=families.categorical):
  """Return T^2 (1/M) sum_m KL(teacher m || student m): Hydra, Diversity Matters, LatentBE.

  LatentBE writes the cross-entropy, which differs by the teachers' entropy.

  Example:
    >>> teacher_logits_BMK = jnp.array([[[2.0, 0.0], [0.0, 2.0]]])
    >>> float(members(teacher_logits_BMK, teacher_logits_BMK))
    0.0
    >>> round(float(members(jnp.zeros((1, 2, 2)), teacher_logits_BMK)), 4)
    0.3278
  """
  logits_BMK, teacher_logits_BMK = with_members(logits_BMK, teacher_logits_BMK)
  return members_loss(family, logits_BMK, teacher_logits_BMK, temperature)[0].mean()


def members_loss(family, outputs_BMO, teacher_outputs_BMO, temperature=1.0):
  """Return the loss of `members` per example, and the logged terms."""
  size, teacher_size = outputs_BMO.shape[1], teacher_outputs_BMO.shape[1]
  if size != teacher_size:
    raise ValueError(
      f'members: the student has {size}, the teacher {teacher_size}: both need the same number, or '
      "use objective 'mean'"
    )
  loss_B = family.kl(teacher_outputs_BMO, outputs_BMO, temperature).mean(1)
  return loss_B, knowledge_logs(family, family.predictive(outputs_BMO), teacher_outputs_BMO)


def make_none():
  """Return the objective that uses labels alone, for teachers and for students without one."""
  return Objective('none', None)


def make_mean(*, temperature=1.0, held: float | None = None, end: float | None = None):
  """Return the objective of `mean`.

  With `held` and `end`, the temperature falls to 1 (see `annealed`), as EnD's does in the code of
  EnD^2's authors. Without them it is constant.
  """
  check_positive(temperature=temperature)
  loss = partial(mean_loss, temperature=temperature)
  if held is None and end is None:
    return Objective('mean', loss)
  if held is None or end is None:
    raise ValueError(f'held={held}, end={end}: set both, or none for a constant temperature')
  check_ramp(held, end)

  def schedule(progress):
    return {'temperature': annealed(progress, temperature, held, end)}

  return Objective('mean', loss, schedule=schedule)


def make_members(*, temperature=1.0):
  """Return the objective of `members`."""
  check_positive(temperature=temperature)
  return Objective('members', partial(members_loss, temperature=temperature), fits=_one_to_one)


def _one_to_one(family_name, student_kind, student_size, teacher_size):
  if student_kind == 'single':
    return (
      "objective 'members' matches members one to one, but student 'single' has only one: set "
      "objective.name='mean', or student.kind='multi_head' or 'batch_ensemble'"
    )
  if student_size != teacher_size:
    return (
      f"objective 'members' matches members one to one, but the student has {student_size} and "
      f"the teacher {teacher_size}: set equal numbers of members, or objective.name='mean'"
    )
  return None
