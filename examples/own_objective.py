"""A custom method: an objective, and a recipe with it.

ensdistill train reverse_digits:small --import=examples/own_objective.py
ensdistill evaluate --student=runs/reverse_digits_small --import=examples/own_objective.py
ensdistill sweep kd,reverse digits:small --import=examples/own_objective.py --seeds=2
"""

from ensdistill import objectives
from ensdistill.config import recipes


def reverse_mean(*, temperature: float = 1.0):
  """Match the ensemble's mean by KL(student || teacher)."""

  def loss(family, outputs_BMO, teacher_outputs_BMO):
    student_B1O = family.mixture(outputs_BMO, temperature)
    teacher_B1O = family.mixture(teacher_outputs_BMO, temperature)
    return family.kl(student_B1O, teacher_B1O, temperature)[:, 0], {}

  return objectives.Objective('reverse_mean', loss)


objectives.OBJECTIVES['reverse_mean'] = reverse_mean
recipes.METHODS['reverse'] = recipes.Method(
  'KL(student || teacher)', {'objective.name': 'reverse_mean'}
)
