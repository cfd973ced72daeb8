"""One network whose logits are a Dirichlet's concentrations: EnD^2, Proxy-EnD^2, Prior Networks."""

from functools import partial

import jax
import jax.numpy as jnp

from ensdistill import families, names, numerics, predictive
from ensdistill.objectives.objective import (
  Objective,
  clip,
  fractions,
  one_network,
  only_member,
  positive,
  spread,
)

LIMIT = 60.0  # of log alpha: beyond, float32 loses Gamma, psi and their gradients


def dirichlet(logits_BMK, teacher_logits_BMK, temperature=1.0, smoothing=1e-3):
  """EnD^2 (Malinin, Mlodozeniec, Gales, ICLR 2020): -T^2 mean_m ln Dir(pi_m; alpha).

  alpha = exp(z / T), pi_m = softmax(t_m / T) smoothed to (1 - g)(pi - 1/K) + 1/K:
    T^2 [sum_k lnGamma(alpha_k) - lnGamma(alpha_0) - sum_k (alpha_k - 1) mean_m ln pi_mk]
  computed as T^2 [alpha_0 mean_m KL(mean || pi_m) + rest], mean = alpha / alpha_0, in which nothing
  large cancels. The code adds 1e-8 inside each Gamma and ln; we follow the paper. log alpha is
  clipped at +-60.
  """
  return dirichlet_loss(None, logits_BMK, teacher_logits_BMK, temperature, smoothing)[0].mean()


def dirichlet_loss(family, outputs_B1K, teacher_outputs_BMK, temperature=1.0, smoothing=1e-3):
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
  """Proxy-EnD^2 (Ryabinin, Malinin, Gales, NeurIPS 2021): towards one Dirichlet fitted to members.

  pi = mean_m pi_m, MKL = mean_m KL(pi || pi_m), beta_0 = (K - 1) / (2 MKL),
  alpha = exp(z) + 1, beta = pi beta_0 + 1;
    reverse: -sum_k pi_k (psi(alpha_k) - psi(alpha_0)) - H[Dir(alpha)] / (beta_0 + K)
    forward: KL(Dir(beta) || Dir(alpha))
  As coded: no temperature, no smoothing, 1e-8 in beta_0's denominator; the authors use reverse for
  sequences and forward for ImageNet. The same alpha predicts. z is clipped at +-60.
  """
  return proxy_dirichlet_loss(None, logits_BMK, teacher_logits_BMK, form)[0].mean()


def proxy_dirichlet_loss(family, outputs_B1K, teacher_outputs_BMK, form='reverse'):
  logits_BK, clipped = clip(only_member(outputs_B1K), LIMIT)
  log_alpha_BK = jax.nn.softplus(logits_BK)
  pi_B1K = families.categorical.mixture(teacher_outputs_BMK)
  mkl_B1 = families.categorical.kl(pi_B1K, teacher_outputs_BMK).mean(1, keepdims=True)
  beta0_B1 = (logits_BK.shape[-1] - 1) / (2 * mkl_B1 + 1e-8)
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
  """Prior Network (Malinin and Gales, 2018/2019): a control that has no teacher, labels alone.

  KL(Dir(alpha) || Dir(target)), alpha = exp(z), target_k = 1 + beta 1[k = y]; an auxiliary example
  (label -1) has the flat target 1 and the weight aux_weight. log alpha is clipped at +-60.
  """
  return prior_network_loss(None, logits_BMK, labels_B, beta, aux_weight).mean()


def prior_network_loss(family, outputs_B1K, labels_B, beta=100.0, aux_weight=1.0):
  log_alpha_BK, _ = clip(only_member(outputs_B1K), LIMIT)
  log_target_BK = jnp.log1p(beta * jax.nn.one_hot(labels_B, log_alpha_BK.shape[-1]))
  weight_B = jnp.where(labels_B >= 0, 1.0, aux_weight)
  return weight_B * numerics.dirichlet_kl(log_alpha_BK, log_target_BK)


def prior_network_logs(family, outputs_B1K):
  logits_BK = only_member(outputs_B1K)
  return _logs(logits_BK, clip(logits_BK, LIMIT)[1])


def _logs(log_alpha_BK, clipped, teacher_outputs_BMK=None):
  """The precision runs away where members agree: it is always logged, as it is at inference."""
  student = predictive.Dirichlet(log_alpha_BK.clip(-LIMIT, LIMIT))
  logs = {'log_precision': numerics.log_total(log_alpha_BK)[:, 0], 'clipped': clipped}
  return logs | spread(families.categorical, student, teacher_outputs_BMK)


def annealed(progress, start, held=1 / 3, end=2 / 3):
  """`start` until `held`, then linearly to 1 at `end`, then 1 (EnD^2: epochs 30 and 60 of 90)."""
  fraction = jnp.clip((progress - held) / max(end - held, 1e-6), 0, 1)
  return start - (start - 1) * fraction


def make_dirichlet(*, temperature=10.0, smoothing=1e-3, held=1 / 3, end=2 / 3):
  positive(temperature=temperature)
  if not 0 <= smoothing < 1:
    raise ValueError(f'smoothing={smoothing} must be in [0, 1)')
  fractions(held, end)
  return Objective(
    'dirichlet',
    partial(dirichlet_loss, smoothing=smoothing),
    predictive=lambda family, outputs: predictive.Dirichlet(only_member(outputs)),
    fits=one_network('dirichlet', 'categorical', 'normal_wishart'),
    schedule=lambda progress: {'temperature': annealed(progress, temperature, held, end)},
  )


def make_proxy_dirichlet(*, form='reverse'):
  names.lookup('form of proxy_dirichlet', form, _PROXY_FORMS)
  log_alpha = lambda outputs: jax.nn.softplus(outputs)  # alpha = exp(z) + 1, at inference too
  return Objective(
    'proxy_dirichlet',
    partial(proxy_dirichlet_loss, form=form),
    label_loss=lambda family, outputs, labels: family.label_loss(log_alpha(outputs), labels),
    predictive=lambda family, outputs: predictive.Dirichlet(log_alpha(only_member(outputs))),
    fits=one_network('proxy_dirichlet', 'categorical', 'normal_wishart'),
  )


def make_prior_network(*, beta=100.0, aux_weight=1.0):
  positive(beta=beta, aux_weight=aux_weight)
  return Objective(
    'prior_network',
    None,
    label_loss=partial(prior_network_loss, beta=beta, aux_weight=aux_weight),
    label_logs=prior_network_logs,
    predictive=lambda family, outputs: predictive.Dirichlet(only_member(outputs)),
    fits=one_network('prior_network', 'categorical', 'none', least_members=0),
  )
