"""What is matched: a student's outputs against the outputs of the teacher's members.

An objective owns what the student's outputs mean: their number, their labels' loss and the
predictive distribution that they stand for. Each public function below is the batch mean of the
loss per example that lies beneath it.
"""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial

from ensdistill import families, names


def always(family_name, student_kind, student_size, teacher_size):
  """Fits every student, teacher and family."""


@dataclasses.dataclass(frozen=True)
class Objective:
  """One way to match a teacher; only `name` and `loss` have no default."""

  name: str
  # (family, outputs_BMO, teacher_outputs_BMO, **schedule(progress)) -> loss_B, logs;
  # None: nothing is matched, the student learns from labels alone.
  loss: Callable | None
  label_loss: Callable = lambda family, outputs, labels: family.label_loss(outputs, labels)
  width: Callable = lambda family, n: family.width(n)
  predictive: Callable = lambda family, outputs: family.predictive(outputs)
  # (family_name, student_kind, student_size, teacher_size) -> None, or what does not fit and what
  # to set instead.
  fits: Callable = always
  schedule: Callable = lambda progress: {}  # of progress in [0, 1], for keyword values of loss


def mean_loss(family, outputs_BMO, teacher_outputs_BMO, temperature=1.0):
  kl_B1 = family.kl(
    family.mixture(teacher_outputs_BMO, temperature),
    family.mixture(outputs_BMO, temperature),
    temperature,
  )
  return kl_B1[:, 0], {'kl': kl_B1[:, 0]}


def mean(logits_BMK, teacher_logits_BMK, temperature=1.0, *, family=families.categorical):
  """T^2 KL(mean teacher || mean student): knowledge distillation, EnD.

  The means are those of the members' tempered predictions, (1/M) sum_m softmax(t_m / T), on both
  sides: several student members are compared as the mixture that they are. EnD's code averages
  over B and K; we, as the papers, sum over K.
  """
  return mean_loss(family, logits_BMK, teacher_logits_BMK, temperature)[0].mean()


def members_loss(family, outputs_BMO, teacher_outputs_BMO, temperature=1.0):
  loss_B = family.kl(teacher_outputs_BMO, outputs_BMO, temperature).mean(1)
  return loss_B, {'kl': loss_B}


def members(logits_BMK, teacher_logits_BMK, temperature=1.0, *, family=families.categorical):
  """T^2 (1/M) sum_m KL(teacher m || student m): Hydra, Diversity Matters, LatentBE.

  LatentBE writes the cross-entropy, which differs by the teachers' entropy: the gradient is ours.
  """
  return members_loss(family, logits_BMK, teacher_logits_BMK, temperature)[0].mean()


def _one_to_one(family_name, student_kind, student_size, teacher_size):
  if student_size != teacher_size:
    if student_size == 1:
      return (
        f"objective 'members' matches members one to one, but the student is one network and the "
        f"teacher has {teacher_size}: set objective.name='mean' or student.kind='multi_head'"
      )
    return (
      f"objective 'members' matches members one to one, but the student has {student_size} and "
      f'the teacher {teacher_size}: give both as many, or set objective.name=mean'
    )


def _none():
  """Labels alone: a control without a teacher's outputs, and how a teacher itself is trained."""
  return Objective('none', None)


def _mean(*, temperature=1.0):
  return Objective('mean', partial(mean_loss, temperature=temperature))


def _members(*, temperature=1.0):
  return Objective('members', partial(members_loss, temperature=temperature), fits=_one_to_one)


OBJECTIVES = {'none': _none, 'mean': _mean, 'members': _members}


def make(name, **settings) -> Objective:
  """The objective of that name; an unknown name or setting fails with the known ones."""
  builder = names.lookup('objective', name, OBJECTIVES)
  names.settings(f'objective {name!r}', settings, inspect.signature(builder).parameters)
  return builder(**settings)
