"""What a network's outputs mean: logits of a categorical, or mean and log-variance of a Gaussian.

The data set decides the family. Everything that differs between classification and regression is a
method or a field here, so that objectives and perturbations are written once for both.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import predictive
from ensdistill.numerics import divergence_terms, log_softmax


class Categorical:
  """Outputs are logits [..., K]. Tempered, p^(1/T) renormalised is softmax(z / T)."""

  name = 'categorical'
  has_classes = True
  score_names = ('nll', 'acc', 'member_acc')

  def width(self, n):
    """Return the number of outputs for n classes."""
    return n

  def prediction(self, outputs, temperature=1.0):
    """Return the space of random output directions (ODS): the probabilities."""
    return jnp.exp(log_softmax(outputs / temperature))

  def kl(self, p_outputs, q_outputs, temperature=1.0):
    """Return T^2 KL(softmax(p / T) || softmax(q / T)): [..., K] -> [...]."""
    log_p, log_q = log_softmax(p_outputs / temperature), log_softmax(q_outputs / temperature)
    return temperature**2 * divergence_terms(log_p, log_q).sum(-1)

  def mixture(self, outputs_BMK, temperature=1.0):
    """Return one member [B, 1, K] with the members' mean tempered probabilities."""
    log_probs_BMK = log_softmax(outputs_BMK / temperature)
    log_mean_B1K = jax.nn.logsumexp(log_probs_BMK, 1, keepdims=True) - math.log(
      outputs_BMK.shape[1]
    )
    return temperature * log_mean_B1K

  def label_loss(self, outputs_BMK, labels_B):
    """Return the negative log likelihood, mean over members; 0 for a missing label (-1)."""
    picked_BM1 = jnp.take_along_axis(
      log_softmax(outputs_BMK), labels_B.clip(0)[:, None, None], axis=-1
    )
    return jnp.where(labels_B >= 0, -picked_BM1.mean((1, 2)), 0.0)

  def predictive(self, outputs_BMK):
    """Return the members' outputs as a predictive distribution."""
    return predictive.Mixture(log_softmax(outputs_BMK))

  def standardise(self, labels_B, mean, std):
    """Return the labels as training uses them: unchanged."""
    del mean, std
    return labels_B

  def standardise_outputs(self, logits, mean, std):
    """Return outputs in the target's units as training uses them: logits have none."""
    del mean, std
    return logits

  def scores(self, distribution, labels_B):
    """Return the validation scores {name: scalar} of `score_names`; a label of -1 is ignored."""
    log_probs_BK = distribution.log_probs()
    known_B = labels_B >= 0
    picked_B = jnp.take_along_axis(log_probs_BK, labels_B[:, None], axis=-1)[:, 0]
    acc = (log_probs_BK.argmax(-1) == labels_B).mean(where=known_B)
    member_acc = acc
    if isinstance(distribution, predictive.Mixture):
      correct_BM = distribution.log_probs_BMK.argmax(-1) == labels_B[:, None]
      member_acc = correct_BM.mean(where=known_B[:, None])
    return {'nll': -picked_B.mean(where=known_B), 'acc': acc, 'member_acc': member_acc}


class Gaussian:
  """Outputs are mean and log-variance [..., 2 D]. Tempered, p^(1/T) is N(mean, T var).

  Log-variances are clipped at +-30, so that float32 can represent every ratio of two variances.
  """

  name = 'gaussian'
  has_classes = False
  score_names = ('nll', 'rmse')
  limit = 30.0

  def width(self, n):
    """Return the number of outputs for n targets."""
    return 2 * n

  def split(self, outputs):
    """Return mean and log-variance [..., D] of outputs [..., 2 D]."""
    mean, log_var = jnp.split(outputs, 2, -1)
    return mean, log_var.clip(-self.limit, self.limit)

  def prediction(self, outputs, temperature=1.0):
    """Return the space of random output directions (ODS): mean and log-variance."""
    del temperature  # adds log T to every log-variance, which changes no gradient
    return jnp.concatenate(self.split(outputs), -1)

  def kl(self, p_outputs, q_outputs, temperature=1.0):
    """Return T^2 KL(N(mean_p, T var_p) || N(mean_q, T var_q)), summed over D: [..., 2 D] -> [...].

    At T = 1: ln(s_q / s_p) + (var_p + (mean_p - mean_q)^2) / (2 var_q) - 1/2 (Hydra, 2001.04694).
    """
    (mean_p, log_var_p), (mean_q, log_var_q) = self.split(p_outputs), self.split(q_outputs)
    gap = log_var_q - log_var_p
    distance = (mean_p - mean_q) ** 2 * jnp.exp(-log_var_q) / temperature
    return temperature**2 * 0.5 * (gap + jnp.expm1(-gap) + distance).sum(-1)

  def mixture(self, outputs_BMO, temperature=1.0):
    """Return one member [B, 1, 2 D] with the mean and variance of the tempered members' mixture."""
    mean, log_var = self.split(outputs_BMO)
    var = jnp.exp(log_var).mean(1, keepdims=True) + mean.var(1, keepdims=True) / temperature
    return jnp.concatenate([mean.mean(1, keepdims=True), jnp.log(var)], -1)

  def label_loss(self, outputs_BMO, y_BD):
    """Return the negative log density, summed over D, mean over members; 0 for a NaN target."""
    mean, log_var = self.split(outputs_BMO)
    known_B1D = ~jnp.isnan(y_BD)[:, None]
    residual = jnp.where(known_B1D, y_BD[:, None], mean) - mean
    nll = 0.5 * (log_var + residual**2 * jnp.exp(-log_var) + math.log(2 * math.pi))
    return jnp.where(known_B1D, nll, 0.0).sum(-1).mean(1)

  def predictive(self, outputs_BMO):
    """Return the members' outputs as a predictive distribution."""
    return predictive.GaussianMixture(*self.split(outputs_BMO))

  def standardise(self, y_ND, mean, std):
    """Return the targets as training uses them: (y - mean) / std in float32, for each target."""
    mean_1D, std_1D = (np.asarray(values, np.float64)[None] for values in (mean, std))
    return ((y_ND - mean_1D) / std_1D).astype(np.float32)

  def standardise_outputs(self, outputs, mean, std):
    """Return mean and log-variance of y [..., 2 D] as those of (y - mean) / std."""
    mean, std = (np.asarray(values, np.float64) for values in (mean, std))
    shape = (1,) * (outputs.ndim - 1) + (-1,)
    shift = np.concatenate([mean, 2 * np.log(std)]).reshape(shape)
    scale = np.concatenate([std, np.ones_like(std)]).reshape(shape)
    return ((outputs - shift) / scale).astype(np.float32)

  def scores(self, distribution, y_BD):
    """Return the validation scores {name: scalar} of `score_names`."""
    error_BD = distribution.mean() - y_BD
    return {'nll': -distribution.log_prob(y_BD).mean(), 'rmse': jnp.sqrt((error_BD**2).mean())}


categorical = Categorical()
gaussian = Gaussian()
FAMILIES = {family.name: family for family in (categorical, gaussian)}


def of_targets(y):
  """Return the family of an array of targets: integers are class labels, floats are values."""
  return categorical if np.issubdtype(y.dtype, np.integer) else gaussian
