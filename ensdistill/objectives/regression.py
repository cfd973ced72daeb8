"""One network whose outputs are the parameters of a Normal-Wishart: the EnD^2 of regression."""

import jax
import jax.numpy as jnp

from ensdistill import families, predictive
from ensdistill.objectives.objective import Objective, clip, one_network, only_member, spread

LIMIT = 20.0  # of log kappa and log(nu - 2): 5e8 observations


def normal_wishart(outputs_BMO, teacher_outputs_BMO):
  """-mean_m ln NW(mu_m, Lambda_m), Lambda = 1 / variance: EnD^2 for regression.

  After Regression Prior Networks (Malinin et al., 2020), for each target alone: four outputs a
  target, the mean, log-variance, log kappa and log(nu - 2) of `predictive.NormalWishart`, whose
  docstring has the density. kappa and nu - 2 are clipped at exp(+-20): as in EnD^2, members that
  agree drive them up without bound.
  """
  return normal_wishart_loss(families.gaussian, outputs_BMO, teacher_outputs_BMO)[0].mean()


def normal_wishart_loss(family, outputs_B1O, teacher_outputs_BMO):
  student = normal_wishart_predictive(family, outputs_B1O)
  loss_B = -student.log_density(*family.split(teacher_outputs_BMO)).mean(1)
  counts_BP = jnp.split(only_member(outputs_B1O), 2, -1)[1]
  logs = {
    'log_kappa': student.log_kappa_BD.mean(-1),
    'log_dof': student.log_dof_BD.mean(-1),
    'clipped': clip(counts_BP, LIMIT)[1],
  }
  return loss_B, logs | spread(family, student, teacher_outputs_BMO)


def normal_wishart_predictive(family, outputs_B1O):
  gaussian_BO, counts_BP = jnp.split(only_member(outputs_B1O), 2, -1)
  counts_BP, _ = clip(counts_BP, LIMIT)
  return predictive.NormalWishart(*family.split(gaussian_BO), *jnp.split(counts_BP, 2, -1))


def normal_wishart_label_loss(family, outputs_B1O, y_BD):
  """-ln Student-t(y), summed over targets; a target of NaN is no label: 0."""
  student = normal_wishart_predictive(family, outputs_B1O)
  known_BD = ~jnp.isnan(y_BD)
  y_BD = jnp.where(known_BD, y_BD, student.mean_BD)
  alone = jax.tree.map(lambda values_BD: values_BD.reshape(-1, 1), student)
  nll_BD = -alone.log_prob(y_BD.reshape(-1, 1)).reshape(y_BD.shape)
  return jnp.where(known_BD, nll_BD, 0.0).sum(-1)


def make_normal_wishart():
  return Objective(
    'normal_wishart',
    normal_wishart_loss,
    label_loss=normal_wishart_label_loss,
    width=lambda family, n: 4 * n,
    predictive=normal_wishart_predictive,
    fits=one_network('normal_wishart', 'gaussian', 'dirichlet'),
  )
