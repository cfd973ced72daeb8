"""Objectives for regression alone: the Normal-Wishart of one network, and least squares."""

from functools import partial

import jax
import jax.numpy as jnp

from ensdistill import families, predictive
from ensdistill.objectives.objective import (
  Objective,
  check_ramp,
  clip,
  fits_one_network,
  knowledge_logs,
  only_member,
  ramp,
  with_members,
)

LIMIT = 20.0  # of log kappa and log(nu - 2): 5e8 observations


def normal_wishart(outputs_BMO, teacher_outputs_BMO, share=1.0, start=0.0):
  """Return -mean_m ln NW(mu_m, Lambda_m), Lambda = 1 / variance: EnD^2 for regression.

  After Regression Prior Networks (Malinin et al., 2020), for each target alone. There are four
  outputs a target: the mean, the log-variance, and log kappa - start and log(nu - 2) - start of
  `predictive.NormalWishart`, whose docstring has the density. kappa and nu - 2 are clipped at
  exp(+-20), because members that agree drive them up without bound, as in EnD^2.

  share: weight of this loss. 1 - share is the weight of KL(mean and variance of the members || mean
    and variance), with which a run begins (see `make_normal_wishart`). If members are certain of
    different means, the density's gradient lowers kappa before it moves the mean, and the mean
    does not converge.
  start: log kappa and log(nu - 2) for outputs of 0. With start = 0, kappa has to rise with the
    features, and then it also rises with them outside of the data: the student is most certain
    where it knows least.
  """
  outputs_BMO, teacher_outputs_BMO = with_members(outputs_BMO, teacher_outputs_BMO, ratio=2)
  loss_B, _ = normal_wishart_loss(families.gaussian, outputs_BMO, teacher_outputs_BMO, share, start)
  return loss_B.mean()


def normal_wishart_loss(family, outputs_B1O, teacher_outputs_BMO, share=1.0, start=0.0):
  """Return the loss of `normal_wishart` per example, and the logged terms."""
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
  return loss_B, logs | knowledge_logs(family, student, teacher_outputs_BMO)


def normal_wishart_predictive(family, outputs_B1O, start=0.0):
  """Return the Normal-Wishart of the outputs, with clipped kappa and nu - 2."""
  gaussian_BO, counts_BP = jnp.split(only_member(outputs_B1O), 2, -1)
  counts_BP, _ = clip(counts_BP + start, LIMIT)
  return predictive.NormalWishart(*family.split(gaussian_BO), *jnp.split(counts_BP, 2, -1))


def normal_wishart_label_loss(family, outputs_B1O, y_BD, start=0.0):
  """Return -ln Student-t(y), summed over targets; 0 for a NaN target."""
  student = normal_wishart_predictive(family, outputs_B1O, start)
  known_BD = ~jnp.isnan(y_BD)
  y_BD = jnp.where(known_BD, y_BD, student.mean_BD)

  def one_target(values_BD):
    return values_BD.reshape(-1, 1)

  alone = jax.tree.map(one_target, student)
  nll_BD = -alone.log_prob(one_target(y_BD)).reshape(y_BD.shape)
  return jnp.where(known_BD, nll_BD, 0.0).sum(-1)


def least_squares_label_loss(family, outputs_BMO, y_BD):
  """Return |y - mean|^2 / 2 plus the NLL of the residual for the log-variance, mean over members.

  The mean learns by least squares alone: the second term has no gradient for it. With one variance
  a member, the optimum is the mean squared residual of the training examples. The variance is
  learned together with the mean, so that it is valid at every step. A NaN target has loss 0.
  """
  mean, log_var = family.split(outputs_BMO)
  known_B1D = ~jnp.isnan(y_BD)[:, None]
  residual = jnp.where(known_B1D, y_BD[:, None] - mean, 0.0)
  fixed = jnp.concatenate([jax.lax.stop_gradient(mean), log_var], -1)
  return (residual**2).sum(-1).mean(1) / 2 + family.label_loss(fixed, y_BD)


def make_least_squares():
  """Return the objective of labels alone with `least_squares_label_loss`."""
  return Objective(
    'least_squares', None, label_loss=least_squares_label_loss, fits=_fits_regression
  )


def _fits_regression(family_name, student_kind, student_size, teacher_size):
  if families.FAMILIES[family_name].has_classes:
    return (
      f"'least_squares' is for regression, but this data set has {family_name} outputs: set "
      "teacher.loss='nll', or objective.name='none'"
    )
  return None


def make_normal_wishart(*, start=3.0, held=1 / 3, end=2 / 3):
  """Return the objective of `normal_wishart`.

  Its share is 0 until `held`, then rises linearly to 1 at `end`, as EnD^2's temperature falls.
  """
  if abs(start) > LIMIT:
    raise ValueError(f'start={start} must be within +-{LIMIT:g}, the limit of log kappa')
  check_ramp(held, end)

  def width(family, n):
    return 2 * family.width(n)

  def schedule(progress):
    return {'share': ramp(progress, held, end)}

  return Objective(
    'normal_wishart',
    partial(normal_wishart_loss, start=start),
    label_loss=partial(normal_wishart_label_loss, start=start),
    width=width,
    predictive=partial(normal_wishart_predictive, start=start),
    fits=fits_one_network('normal_wishart', families.gaussian, 'dirichlet'),
    schedule=schedule,
  )
