"""Objectives of one network with Dirichlet outputs: EnD^2, Proxy-EnD^2, Prior Networks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import families, names, numerics, predictive
from ensdistill.objectives.objective import (
  Objective,
  annealed,
  check_positive,
  check_ramp,
  clip,
  fits_one_network,
  knowledge_logs,
  only_member,
  with_members,
)

EPSILON = float(np.finfo(np.float32).eps)  # 1.19e-7
LIMIT = 60.0  # of log alpha; beyond it, Gamma, psi and their gradients fail in float32


def dirichlet(logits_BMK, teacher_logits_BMK, temperature=1.0, smoothing=1e-3):
  """Return -T^2 mean_m ln Dir(pi_m; alpha): EnD^2 (Malinin, Mlodozeniec, Gales, ICLR 2020).

  alpha = exp(z / T), pi_m = softmax(t_m / T) smoothed to (1 - g)(pi - 1/K) + 1/K:
    T^2 [sum_k lnGamma(alpha_k) - lnGamma(alpha_0) - sum_k (alpha_k - 1) mean_m ln pi_mk]
  computed as T^2 [alpha_0 mean_m KL(mean || pi_m) + rest] with mean = alpha / alpha_0, where no
  large terms cancel. The authors' code adds 1e-8 inside each Gamma and ln; we follow the paper.
  log alpha is clipped at +-60.
  """
  logits_BMK, teacher_logits_BMK = with_members(logits_BMK, teacher_logits_BMK)
  return dirichlet_loss(None, logits_BMK, teacher_logits_BMK, temperature, smoothing)[0].mean()


def dirichlet_loss(family, outputs_B1K, teacher_outputs_BMK, temperature=1.0, smoothing=1e-3):
  """Return the loss of `dirichlet` per example, and the logged terms."""
  logits_BK = only_member(outputs_B1K)
  log_alpha_BK, clipped = clip(logits_BK / temperature, LIMIT)
  log_alpha0_B1 = numerics.log_total(log_alpha_BK)
  log_pi_BMK = jnp.logaddexp(
    numerics.log_softmax(teacher_outputs_BMK / temperature) + jnp.log1p(-smoothing),
    jnp.log(smoothing / logits_BK.shape[-1]),
  )
  log_mean_B1K = numerics.log_softmax(log_alpha_BK)[:, None]
  apart_B = numerics.divergence_terms(log_mean_B1K, log_pi_BMK).sum(-1).mean(1)
  fit_B = temperature**2 * jnp.exp(log_alpha0_B1[:, 0]) * apart_B
  rest_B = (log_pi_BMK.mean(1) + numerics.log_gamma_rest(log_alpha_BK)).sum(-1)
  rest_B = temperature**2 * (rest_B - numerics.log_gamma_rest(log_alpha0_B1)[:, 0])
  logs = {'fit': fit_B, 'rest': rest_B} | _logs(logits_BK, clipped, teacher_outputs_BMK)
  return fit_B + rest_B, logs


def proxy_dirichlet(logits_BMK, teacher_logits_BMK, form='reverse'):
  """Return the divergence from a Dirichlet that is fitted to the members: Proxy-EnD^2.

  After Ryabinin, Malinin, Gales (NeurIPS 2021), with
  pi = mean_m pi_m, MKL = mean_m KL(pi || pi_m), beta_0 = (K - 1) / (2 MKL),
  alpha = exp(z) + 1, beta = pi beta_0 + 1;
    reverse: -sum_k pi_k (psi(alpha_k) - psi(alpha_0)) - H[Dir(alpha)] / (beta_0 + K)
    forward: KL(Dir(beta) || Dir(alpha))
  As in the authors' code: no temperature, no smoothing, 1.19e-7 (EPSILON) in beta_0's denominator.
  They use reverse for sequences and forward for ImageNet. Predictions use the same alpha. z is
  clipped at +-60.
  """
  logits_BMK, teacher_logits_BMK = with_members(logits_BMK, teacher_logits_BMK)
  return proxy_dirichlet_loss(None, logits_BMK, teacher_logits_BMK, form)[0].mean()


def proxy_dirichlet_loss(family, outputs_B1K, teacher_outputs_BMK, form='reverse'):
  """Return the loss of `proxy_dirichlet` per example, and the logged terms."""
  logits_BK, clipped = clip(only_member(outputs_B1K), LIMIT)
  log_alpha_BK = jax.nn.softplus(logits_BK)
  pi_B1K = families.categorical.mixture(teacher_outputs_BMK)
  mkl_B1 = families.categorical.kl(pi_B1K, teacher_outputs_BMK).mean(1, keepdims=True)
  beta0_B1 = (logits_BK.shape[-1] - 1) / (2 * mkl_B1 + EPSILON)
  log_beta_BK = jax.nn.softplus(pi_B1K[:, 0] + jnp.log(beta0_B1))
  form = names.lookup('form of proxy_dirichlet', form, _PROXY_FORMS)
  terms = form(log_alpha_BK, log_beta_BK, jnp.exp(pi_B1K[:, 0]))
  logs = terms | _logs(log_alpha_BK, clipped, teacher_outputs_BMK)
  return sum(terms.values()), logs | {'target_log_precision': jnp.log(beta0_B1[:, 0])}


def _reverse(log_alpha_BK, log_beta_BK, pi_BK):
  total_B = jnp.exp(log_beta_BK).sum(-1)
  return {
    'fit': -(pi_BK * numerics.dirichlet_log_means(log_alpha_BK)).sum(-1),
    'rest': -numerics.dirichlet_entropy(log_alpha_BK) / total_B,
  }


def _forward(log_alpha_BK, log_beta_BK, pi_BK):
  return {'fit': numerics.dirichlet_kl(log_beta_BK, log_alpha_BK)}


_PROXY_FORMS = {'reverse': _reverse, 'forward': _forward}


def prior_network(logits_BMK, labels_B, beta=100.0, aux_weight=1.0):
  """Return the loss of a Prior Network (Malinin and Gales, 2018/2019), from labels alone.

  It is KL(Dir(alpha) || Dir(target)) with alpha = exp(z) and target_k = 1 + beta 1[k = y]. An
  auxiliary example (label -1) has the flat target 1 and the weight aux_weight. log alpha is clipped
  at +-60.
  """
  logits_BMK, _ = with_members(logits_BMK, logits_BMK)
  if jnp.shape(labels_B) != logits_BMK.shape[:1]:
    raise ValueError(
      f'labels have shape {jnp.shape(labels_B)}, logits {logits_BMK.shape}: give one label for '
      f'each example, {logits_BMK.shape[:1]}'
    )
  return prior_network_loss(None, logits_BMK, labels_B, beta, aux_weight).mean()


def prior_network_loss(family, outputs_B1K, labels_B, beta=100.0, aux_weight=1.0):
  """Return the loss of `prior_network` per example."""
  log_alpha_BK, _ = clip(only_member(outputs_B1K), LIMIT)
  log_target_BK = jnp.log1p(beta * jax.nn.one_hot(labels_B, log_alpha_BK.shape[-1]))
  weight_B = jnp.where(labels_B >= 0, 1.0, aux_weight)
  return weight_B * numerics.dirichlet_kl(log_alpha_BK, log_target_BK)


def prior_network_logs(family, outputs_B1K):
  """Return the logged terms of `prior_network`."""
  logits_BK = only_member(outputs_B1K)
  return _logs(logits_BK, clip(logits_BK, LIMIT)[1])


def _logs(log_alpha_BK, clipped, teacher_outputs_BMK=None):
  """Return the precision at inference, which may grow without limit, and the knowledge."""
  student = predictive.Dirichlet(log_alpha_BK.clip(-LIMIT, LIMIT))
  logs = {'log_precision': numerics.log_total(log_alpha_BK)[:, 0], 'clipped': clipped}
  return logs | knowledge_logs(families.categorical, student, teacher_outputs_BMK)


def dirichlet_predictive(family, outputs_B1K):
  """Return the Dirichlet with alpha = exp(z)."""
  return predictive.Dirichlet(only_member(outputs_B1K))


def make_dirichlet(*, temperature=10.0, smoothing=1e-3, held=1 / 3, end=2 / 3):
  """Return the objective of `dirichlet`, with a temperature that falls to 1 (see `annealed`)."""
  check_positive(temperature=temperature)
  if not 0 <= smoothing < 1:
    raise ValueError(f'smoothing={smoothing} must be in [0, 1)')
  check_ramp(held, end)

  def schedule(progress):
    return {'temperature': annealed(progress, temperature, held, end)}

  return Objective(
    'dirichlet',
    partial(dirichlet_loss, smoothing=smoothing),
    predictive=dirichlet_predictive,
    fits=fits_one_network('dirichlet', families.categorical, 'normal_wishart'),
    schedule=schedule,
  )


def proxy_label_loss(family, outputs_B1K, labels_B):
  """Return the labels' loss under the mean of the Dirichlet with alpha = exp(z) + 1."""
  return family.label_loss(jax.nn.softplus(outputs_B1K), labels_B)


def proxy_predictive(family, outputs_B1K):
  """Return the Dirichlet with alpha = exp(z) + 1."""
  return predictive.Dirichlet(jax.nn.softplus(only_member(outputs_B1K)))


def make_proxy_dirichlet(*, form='reverse'):
  """Return the objective of `proxy_dirichlet`."""
  names.check('form of proxy_dirichlet', form, _PROXY_FORMS)
  return Objective(
    'proxy_dirichlet',
    partial(proxy_dirichlet_loss, form=form),
    label_loss=proxy_label_loss,
    predictive=proxy_predictive,
    fits=fits_one_network('proxy_dirichlet', families.categorical, 'normal_wishart'),
  )


def make_prior_network(*, beta=100.0, aux_weight=1.0):
  """Return the objective of `prior_network`."""
  check_positive(beta=beta, aux_weight=aux_weight)
  return Objective(
    'prior_network',
    None,
    label_loss=partial(prior_network_loss, beta=beta, aux_weight=aux_weight),
    label_logs=prior_network_logs,
    predictive=dirichlet_predictive,
    fits=fits_one_network('prior_network', families.categorical, 'none', least_members=0),
  )
