"""Metrics of regressors from their predictive distributions and targets y [B, D], in y's own units.

Each takes a predictive.GaussianMixture or NormalWishart and works on it in float64.
"""

import jax
import numpy as np

from ensdistill.metrics.distributions import KNOTS, NODES, host
from ensdistill.metrics.uncertainty import rank_correlation

BLOCK = 1 << 17  # entries of an array held at a time, few enough for a cache


def targets(p, y_BD):
  """-> the distribution in float64, y in float64; refuses shapes that do not fit."""
  p, y_BD = host(p), np.asarray(y_BD, np.float64)
  if y_BD.shape != p.mean().shape or not len(y_BD):
    raise ValueError(f'targets {y_BD.shape} do not fit predictions {p.mean().shape}')
  if not np.isfinite(y_BD).all():
    raise ValueError('targets hold NaN or infinity: leave such examples out')
  return p, y_BD


def at_targets(method, p, y_BD):
  """log_prob [B], cdf or crps [B, D] of each prediction at its own targets, in bounded memory."""
  return _in_blocks(lambda p, y_BD: getattr(p, method)(y_BD), *targets(p, y_BD), points=1)


def squared_errors(p, y_BD):
  """Squared error of the mean, over targets its mean: [B]. The loss of a rejection curve."""
  p, y_BD = targets(p, y_BD)
  return ((p.mean() - y_BD) ** 2).mean(-1)


def rmse(p, y_BD):
  """Root of the mean squared error of the mean, over examples and targets."""
  return float(np.sqrt(squared_errors(p, y_BD).mean()))


def nll(p, y_BD):
  """Negative log density, joint over targets, mean over examples."""
  return float(-at_targets('log_prob', p, y_BD).mean())


def crps(p, y_BD):
  """Continuous ranked probability score, integral of (F(x) - 1[x >= y])^2: mean, in y's units."""
  return float(at_targets('crps', p, y_BD).mean())


def pit(p, y_BD):
  """Probability integral transform, F(y): [B, D], uniform where the predictions are calibrated."""
  return at_targets('cdf', p, y_BD)


def _check(level):
  levels = np.ravel(level)
  wrong = ~((levels > 0) & (levels < 1))  # NaN too
  if wrong.any():
    raise ValueError(
      f'level {levels[wrong][0]:g} is not between 0 and 1: give a share, such as 0.9 for 90 %'
    )


def coverage(p, y_BD, level=0.9):
  """Share of targets within their central interval; `level` may be an array of levels."""
  return covered(pit(p, y_BD), level)


def covered(pit_BD, level):
  """coverage from the PIT: |F(y) - 1/2| <= level / 2, for each level."""
  _check(level)
  share = lambda level: float((np.abs(pit_BD - 0.5) <= level / 2).mean())
  return share(level) if np.ndim(level) == 0 else np.array([share(l) for l in level])


def sharpness(p, level=0.9):
  """Mean width of the central interval, in y's units."""
  _check(level)
  width = lambda q: q.quantile((1 + level) / 2) - q.quantile((1 - level) / 2)
  return float(_in_blocks(width, host(p), points=1).mean())


def calibration_error(pit_BD):
  """Mean over all levels q of |share of targets below their q-quantile - q|, between 0 and 1/2.

  The integral of |empirical distribution of the PIT - q|, exactly: no grid of levels. 0 when
  calibrated, 1/2 when every target lies beyond its predicted distribution.
  """
  u = np.sort(np.ravel(pit_BD))
  low, high = np.arange(len(u)) / len(u), np.arange(1, len(u) + 1) / len(u)
  at = np.clip(u, low, high)
  within = ((at - low) ** 2 + (high - at) ** 2) / 2
  return float((within + np.abs(u - at) * (high - low)).sum())


def uncertainties(p):
  """Variances, summed over targets: a dict of total, data and knowledge [B]."""
  p = host(p)
  data_B, knowledge_B = p.data().sum(-1), p.knowledge().sum(-1)
  return {'total': data_B + knowledge_B, 'data': data_B, 'knowledge': knowledge_B}


def _in_blocks(function, *parts, points=KNOTS * NODES):
  """function of float64 distributions or arrays [B, ...], over slices of the batch that are small.

  points: of each target, at which the function holds all members.
  """
  leaves = jax.tree.leaves(parts)
  step = max(1, BLOCK // (points * max(a[:1].size for a in leaves)))
  slices = [slice(i, i + step) for i in range(0, len(leaves[0]), step)]
  return np.concatenate([function(*jax.tree.map(lambda a, s=s: a[s], parts)) for s in slices])


def entropies(p):
  """Entropy-based uncertainties, summed over targets: total, data, knowledge [B] (nats).

  Of the marginal of each target; knowledge is the mutual information of y and the member (or the
  parameters of the Normal-Wishart). Mixtures by quadrature, the Student's t in closed form.
  """
  stacked_BD3 = _in_blocks(lambda q: np.stack(q.entropies(), -1), host(p))
  total_B, data_B, knowledge_B = stacked_BD3.sum(1).T
  return total_B, data_B, knowledge_B


def divergences(p, ensemble):
  """KL(ensemble || p) of the marginals, summed over targets, by quadrature: [B]."""
  return _in_blocks(lambda a, b: a.kl(b), host(ensemble), host(p)).sum(-1)


def agreement(p, ensemble):
  """How a student agrees with the GaussianMixture that it was distilled from.

  -> mean KL(ensemble || student), rank correlation of their knowledge uncertainties (variances).
  """
  knowledge_B, theirs_B = (uncertainties(q)['knowledge'] for q in (p, ensemble))
  return float(divergences(p, ensemble).mean()), rank_correlation(knowledge_B, theirs_B)
