"""Metrics of regressors from predictive distributions and targets y [B, D], in the units of y.

Each takes a predictive.GaussianMixture or NormalWishart and computes in float64.
"""

import jax
import numpy as np

from ensdistill.metrics.distributions import KNOTS, NODES, Gaussians, host
from ensdistill.metrics.uncertainty import rank_correlation

BLOCK = 1 << 17  # largest number of entries of an array at a time, so that it fits a cache


def targets(p, y_BD):
  """Return the distribution and y in float64; refuse shapes that do not fit."""
  p, y_BD = host(p), np.asarray(y_BD, np.float64)
  if y_BD.shape != p.mean().shape or not len(y_BD):
    raise ValueError(
      f'targets of shape {y_BD.shape} do not fit predictions of shape {p.mean().shape}: both are '
      '[examples, targets], with at least one example'
    )
  if not np.isfinite(y_BD).all():
    raise ValueError('targets hold NaN or infinity: leave such examples out')
  return p, y_BD


def at_targets(method, p, y_BD):
  """Return log_prob [B], cdf or crps [B, D] of the predictions at their targets, block by block."""

  def evaluate(p, y_BD):
    return getattr(p, method)(y_BD)

  return _in_blocks(evaluate, *targets(p, y_BD), points=1)


def squared_errors(p, y_BD):
  """Return the squared error of the mean prediction, averaged over targets: [B]."""
  p, y_BD = targets(p, y_BD)
  return ((p.mean() - y_BD) ** 2).mean(-1)


def rmse(p, y_BD):
  """Return the root mean squared error of the mean prediction, over examples and targets."""
  return float(np.sqrt(squared_errors(p, y_BD).mean()))


def nll(p, y_BD):
  """Return the negative log density, joint over targets, mean over examples."""
  return float(-at_targets('log_prob', p, y_BD).mean())


def crps(p, y_BD):
  """Return the mean continuous ranked probability score, integral of (F(x) - 1[x >= y])^2."""
  return float(at_targets('crps', p, y_BD).mean())


def pit(p, y_BD):
  """Return the probability integral transform F(y), [B, D]: uniform if calibrated."""
  return at_targets('cdf', p, y_BD)


def _check(level):
  """Refuse levels outside of (0, 1)."""
  levels = np.ravel(level)
  wrong = ~((levels > 0) & (levels < 1))  # NaN too
  if wrong.any():
    raise ValueError(
      f'level {levels[wrong][0]:g} is not between 0 and 1: give a share, such as 0.9 for 90 %'
    )


def coverage(p, y_BD, level=0.9):
  """Return the share of targets within their central interval; `level` may be an array."""
  return covered(pit(p, y_BD), level)


def covered(pit_BD, level):
  """Return coverage from the PIT, the share of |F(y) - 1/2| <= level / 2, for each level."""
  _check(level)
  if np.ndim(level):
    return np.array([covered(pit_BD, one) for one in level])
  return float((np.abs(pit_BD - 0.5) <= level / 2).mean())


def sharpness(p, level=0.9):
  """Return the mean width of the central interval, in the units of y."""
  _check(level)

  def width(p):
    return p.quantile((1 + level) / 2) - p.quantile((1 - level) / 2)

  return float(_in_blocks(width, host(p), points=1).mean())


def calibration_error(pit_BD):
  """Return the mean over levels q of |share of targets below their q-quantile - q|.

  It is the exact integral of |empirical distribution of the PIT - q|, without a grid of levels. It
  is 0 if calibrated and 1/2 if every target lies outside of its predicted distribution.
  """
  u = np.sort(np.ravel(pit_BD))
  low, high = np.arange(len(u)) / len(u), np.arange(1, len(u) + 1) / len(u)
  at = np.clip(u, low, high)
  within = ((at - low) ** 2 + (high - at) ** 2) / 2
  return float((within + np.abs(u - at) * (high - low)).sum())


def uncertainties(p):
  """Return a dict of variances, summed over targets: total, data and knowledge [B]."""
  p = host(p)
  data_B, knowledge_B = p.data().sum(-1), p.knowledge().sum(-1)
  return {'total': data_B + knowledge_B, 'data': data_B, 'knowledge': knowledge_B}


def _in_blocks(function, *parts, points=KNOTS * NODES):
  """Return function(*parts) of float64 distributions or arrays [B, ...], computed block by block.

  points: number of points a target at which the function evaluates all members at once.
  """
  leaves = jax.tree.leaves(parts)
  step = max(1, BLOCK // (points * max(a[:1].size for a in leaves)))

  def of_block(start):
    return function(*jax.tree.map(lambda a: a[start : start + step], parts))

  return np.concatenate([of_block(start) for start in range(0, len(leaves[0]), step)])


def entropies(p):
  """Return entropies of the marginals, summed over targets: total, data, knowledge [B] (nats).

  Knowledge is the mutual information of y and the member (or the parameters of the Normal-Wishart).
  Mixtures are integrated by quadrature, the Student's t has a closed form.
  """

  def stacked(p):
    return np.stack(p.entropies(), -1)

  stacked_BD3 = _in_blocks(stacked, host(p))
  total_B, data_B, knowledge_B = stacked_BD3.sum(1).T
  return total_B, data_B, knowledge_B


def divergences(p, ensemble):
  """Return KL(ensemble || p) of the marginals, summed over targets, by quadrature: [B]."""
  return _in_blocks(Gaussians.kl, host(ensemble), host(p)).sum(-1)


def agreement(p, ensemble):
  """Return the agreement of a student with the GaussianMixture that it was distilled from.

  It is the mean KL(ensemble || student), and the rank correlation of their knowledge uncertainties
  (variances).
  """
  knowledge_B, theirs_B = (uncertainties(q)['knowledge'] for q in (p, ensemble))
  return float(divergences(p, ensemble).mean()), rank_correlation(knowledge_B, theirs_B)
