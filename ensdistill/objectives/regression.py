"""Regression alone: the Normal-Wishart of one network (its EnD^2), and least squares on labels."""

from functools import partial

import jax
import jax.numpy as jnp

from ensdistill import families, predictive
from ensdistill.objectives.objective import (
  Objective,
  clip,
  fractions,
  one_network,
  only_member,
  spread,
)

LIMIT = 20.0  # of log kappa and log(nu - 2): 5e8 observations


def normal_wishart(outputs_BMO, teacher_outputs_BMO, share=1.0, start=0.0):
  """-mean_m ln NW(mu_m, Lambda_m), Lambda = 1 / variance: EnD^2 for regression.

  After Regression Prior Networks (Malinin et al., 2020), for each target alone: four outputs a
  target, the mean, log-variance, and log kappa - start and log(nu - 2) - start of
  `predictive.NormalWishart`, whose docstring has the density. kappa and nu - 2 are clipped at
  exp(+-20): as in EnD^2, members that agree drive them up without bound.

  `share` < 1 gives the rest to KL(the members' mean and variance || mean, variance), as a run
  begins (`beginning`): where members are sure of different means the density's gradient lowers
  kappa before it moves the mean, and the mean never arrives. `start` is what a network says of
  inputs of which its features say nothing. From 0, kappa has to rise with the features, and then
  rises with them outside of the data too: the student is surest where it knows least.
  """
  loss_B, _ = normal_wishart_loss(families.gaussian, outputs_BMO, teacher_outputs_BMO, share, start)
  return loss_B.mean()


def normal_wishart_loss(family, outputs_B1O, teacher_outputs_BMO, share=1.0, start=0.0):
  student = normal_wishart_predictive(family, outputs_B1O, start)
  gaussian_B1O, counts_B1P = jnp.split(outputs_B1O, 2, -1)
  fit_B = family.kl(family.mixture(teacher_outputs_BMO), gaussian_B1O)[:, 0]
  density_B = student.log_density(*family.split(teacher_outputs_BMO)).mean(1)
  logs = {
    'log_kappa': student.log_kappa_BD.mean(-1),
    'log_dof': student.log_dof_BD.mean(-1),
    'clipped': clip(counts_B1P + start, LIMIT)[1],
  }
  loss_B = (1 - share) * fit_B - share * density_B
  return loss_B, logs | spread(family, student, teacher_outputs_BMO)


def beginning(progress, held=1 / 3, end=2 / 3):
  """0 until `held`, then linearly to 1 at `end`, then 1, as EnD^2's temperature falls."""
  return jnp.clip((progress - held) / max(end - held, 1e-6), 0, 1)


def normal_wishart_predictive(family, outputs_B1O, start=0.0):
  gaussian_BO, counts_BP = jnp.split(only_member(outputs_B1O), 2, -1)
  counts_BP, _ = clip(counts_BP + start, LIMIT)
  return predictive.NormalWishart(*family.split(gaussian_BO), *jnp.split(counts_BP, 2, -1))


def normal_wishart_label_loss(family, outputs_B1O, y_BD, start=0.0):
  """-ln Student-t(y), summed over targets; a target of NaN is no label: 0."""
  student = normal_wishart_predictive(family, outputs_B1O, start)
  known_BD = ~jnp.isnan(y_BD)
  y_BD = jnp.where(known_BD, y_BD, student.mean_BD)
  alone = jax.tree.map(lambda values_BD: values_BD.reshape(-1, 1), student)
  nll_BD = -alone.log_prob(y_BD.reshape(-1, 1)).reshape(y_BD.shape)
  return jnp.where(known_BD, nll_BD, 0.0).sum(-1)


def least_squares_label_loss(family, outputs_BMO, y_BD):
  """|y - mean|^2 / 2, and for the log-variance the NLL of what that leaves, mean over members.

  The mean learns by least squares alone: the second term has no gradient for it. Of one variance a
  member the optimum is its closed form, the mean squared residual of the training examples; it is
  learned beside the mean, so that it is there at every step. A target of NaN is no label: 0.
  """
  mean, log_var = family.split(outputs_BMO)
  known_B1D = ~jnp.isnan(y_BD)[:, None]
  residual = jnp.where(known_B1D, y_BD[:, None] - mean, 0.0)
  fixed = jnp.concatenate([jax.lax.stop_gradient(mean), log_var], -1)
  return (residual**2).sum(-1).mean(1) / 2 + family.label_loss(fixed, y_BD)


def make_least_squares():
  """Labels alone, for regression; see `least_squares_label_loss`."""

  def fits(family_name, student_kind, student_size, teacher_size):
    if family_name != 'gaussian':
      return (
        f"'least_squares' is for regression, and this data set has {family_name} outputs: set "
        "teacher.loss='nll', or objective.name='none'"
      )

  return Objective('least_squares', None, label_loss=least_squares_label_loss, fits=fits)


def make_normal_wishart(*, start=3.0, held=1 / 3, end=2 / 3):
  """See `normal_wishart`."""
  if abs(start) > LIMIT:
    raise ValueError(f'start={start}: log kappa and log(nu - 2) begin within +-{LIMIT:g}')
  fractions(held, end)
  return Objective(
    'normal_wishart',
    partial(normal_wishart_loss, start=start),
    label_loss=partial(normal_wishart_label_loss, start=start),
    width=lambda family, n: 4 * n,
    predictive=partial(normal_wishart_predictive, start=start),
    fits=one_network('normal_wishart', 'gaussian', 'dirichlet'),
    schedule=lambda progress: {'share': beginning(progress, held, end)},
  )
