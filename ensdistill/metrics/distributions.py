"""Predictive distributions of regression on the host, in float64, for metrics.

`ensdistill.predictive` has the float32 classes that train under jit. Only mean, data, knowledge and
log_prob exist in both. One class over an array namespace would need two forms of nearly every line:
float32 needs a Gamma ratio by recurrence and log-variances, where float64 has scipy.special and
standard deviations, which also keep the digits of targets in large units. Results are [B, D], each
target alone, except where a docstring says joint.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from ensdistill import predictive

_LOG_2PI = math.log(2 * math.pi)
KNOTS = 20  # typical number of knots of an integral
NODES = 8  # nodes of the quadrature between two knots
_APART = 5  # distance between knots, in units of the smallest standard deviation
_SPREAD = np.array([0.5, 1.25, 2, 2.75, 3.5, 4.5, 5.5, 7, 9])  # knots around a mean, in deviations
_SPREAD = np.append(-_SPREAD, _SPREAD)


def host(p):
  """Return the float64 counterpart below of a predictive distribution of regression."""
  if isinstance(p, predictive.GaussianMixture):
    fields = (np.asarray(a, np.float64) for a in (p.mean_BMD, p.log_var_BMD))
    mean_BDM, log_var_BDM = (a.swapaxes(1, 2).copy() for a in fields)
    return Gaussians(mean_BDM, np.exp(log_var_BDM / 2))
  if isinstance(p, predictive.NormalWishart):
    fields = (p.mean_BD, p.log_var_BD, p.log_kappa_BD, p.log_dof_BD)
    return StudentT(*(np.asarray(a, np.float64) for a in fields))
  raise ValueError(
    f'{type(p).__name__} is not a predictive distribution of a regressor: pass a '
    'predictive.GaussianMixture or predictive.NormalWishart'
  )


class Gaussians(NamedTuple):
  """An equally weighted mixture of Gaussians. Members are the last axis, for fast sums."""

  mean_BDM: np.ndarray
  std_BDM: np.ndarray

  def mean(self):
    return self.mean_BDM.mean(-1)

  def data(self):
    return (self.std_BDM**2).mean(-1)

  def knowledge(self):
    return self.mean_BDM.var(-1)

  def _log_pdfs(self, y_BND):
    z_BNDM = (y_BND[..., None] - self.mean_BDM[:, None]) / self.std_BDM[:, None]
    return -(z_BNDM**2 + _LOG_2PI) / 2 - np.log(self.std_BDM)[:, None]

  def log_pdf(self, y_BND):
    """Return the log density at N points an example: [B, N, D]."""
    return _log_mean_exp(self._log_pdfs(y_BND))

  def log_prob(self, y_BD):
    """Return the joint log density [B]. Targets are independent within a member only."""
    return _log_mean_exp(self._log_pdfs(y_BD[:, None])[:, 0].sum(1))

  def cdf(self, y_BD):
    return special.ndtr((y_BD[..., None] - self.mean_BDM) / self.std_BDM).mean(-1)

  def quantile(self, q):
    """Return the q-quantile by Newton's method, inside the bracket of the members' quantiles.

    The search stops after a step below 1e-9 standard deviations, as convergence is quadratic.
    """
    member_BDM = self.mean_BDM + self.std_BDM * special.ndtri(q)
    low_BD, high_BD = member_BDM.min(-1), member_BDM.max(-1)
    normal_BD = self.mean() + np.sqrt(self.data() + self.knowledge()) * special.ndtri(q)
    at_BD = np.clip(normal_BD, low_BD, high_BD)
    tolerance_BD = 1e-9 * self.std_BDM.min(-1) + 1e-15 * np.abs(at_BD)
    for _ in range(100):
      error_BD = self.cdf(at_BD) - q
      low_BD = np.where(error_BD <= 0, at_BD, low_BD)
      high_BD = np.where(error_BD >= 0, at_BD, high_BD)
      density_BD = np.exp(self.log_pdf(at_BD[:, None])[:, 0])
      with np.errstate(all='ignore'):  # between distant members the density is zero
        next_BD = at_BD - error_BD / density_BD
      inside_BD = (next_BD >= low_BD) & (next_BD <= high_BD)
      next_BD = np.where(inside_BD, next_BD, (low_BD + high_BD) / 2)
      step_BD, at_BD = np.abs(next_BD - at_BD), next_BD
      if (step_BD <= tolerance_BD).all():
        break
    return at_BD

  def crps(self, y_BD):
    """Return E|X - y| - E|X - X'| / 2 in closed form (Grimit et al. 2006).

    mean_m A(y - m_m, s_m) - mean_ij A(m_i - m_j, (s_i^2 + s_j^2)^.5) / 2, A(m, s) = E|N(m, s^2)|.
    """
    mean_BDM, std_BDM = self
    first_BD = _mean_absolute(y_BD[..., None] - mean_BDM, std_BDM).mean(-1)
    second_BD = np.zeros_like(first_BD)
    for i in range(mean_BDM.shape[-1]):  # the pairs i, j >= i; those with j > i count twice
      gap_BDJ = mean_BDM[..., i : i + 1] - mean_BDM[..., i:]
      part_BDJ = _mean_absolute(gap_BDJ, np.hypot(std_BDM[..., i : i + 1], std_BDM[..., i:]))
      second_BD += 2 * part_BDJ.sum(-1) - part_BDJ[..., 0]
    return first_BD - second_BD / (2 * mean_BDM.shape[-1] ** 2)

  def entropies(self):
    """Return differential entropies by quadrature: total, data, knowledge (mutual information)."""
    data_BD = (np.log(self.std_BDM) + (_LOG_2PI + 1) / 2).mean(-1)

    def excess(y_BND, p):
      """Return the mean over members of p_m log(p_m / p) - p_m + p, where no term is negative."""
      log_p_BNDM = p._log_pdfs(y_BND)
      log_mixture_BND = _log_mean_exp(log_p_BNDM)
      d_BNDM = log_p_BNDM - log_mixture_BND[..., None]
      more_BNDM = np.expm1(d_BNDM)
      return np.exp(log_mixture_BND) * (more_BNDM * d_BNDM + d_BNDM - more_BNDM).mean(-1)

    knowledge_BD = np.maximum(_integrate(excess, self), 0)
    return data_BD + knowledge_BD, data_BD, knowledge_BD

  def kl(self, other):
    """Return KL(self || other) by quadrature."""

    def gain(y_BND, p, q):
      log_p_BND = p.log_pdf(y_BND)
      return np.exp(log_p_BND) * (log_p_BND - q.log_pdf(y_BND))

    return _integrate(gain, self, other)

  def knots(self):
    """Return sorted points around every member [B, D, P], and their distance [B, D]."""
    knots_BDMP = self.mean_BDM[..., None] + self.std_BDM[..., None] * _SPREAD
    knots_BDP = np.sort(knots_BDMP.reshape(*self.mean_BDM.shape[:2], -1))
    return knots_BDP, _APART * self.std_BDM.min(-1)


def _integrate(function, p, *others):
  """Return the integral of function(y [B, N, D], p, *others) over y where p has mass: [B, D].

  Gauss-Legendre quadrature between the knots of all distributions. An interval is halved until its
  halves agree with it. The error is about 1e-8 of the integral, also for integrands with kinks.
  """
  rows = [type(q)(*(a.reshape(-1, 1, *a.shape[2:]) for a in q)) for q in (p, *others)]
  x_N, weight_N = np.polynomial.legendre.leggauss(NODES)

  def gauss(row_I, low_I, high_I):
    half_I1 = (high_I - low_I)[:, None] / 2
    y_IN = low_I[:, None] + half_I1 * (1 + x_N)
    own = [type(q)(*(a[row_I] for a in q)) for q in rows]
    return (function(y_IN[..., None], *own)[..., 0] * half_I1) @ weight_N

  row_I, low_I, high_I = _intervals(*rows)
  whole_I = gauss(row_I, low_I, high_I)
  tolerance_R = 1e-8 * np.abs(np.bincount(row_I, whole_I, p.mean().size)) + 1e-12
  total_R, most = np.zeros(len(tolerance_R)), 4 * len(row_I)
  while True:
    middle_I = (low_I + high_I) / 2
    halves_2I = gauss(row_I, low_I, middle_I), gauss(row_I, middle_I, high_I)
    open_I = np.abs(sum(halves_2I) - whole_I) > tolerance_R[row_I]
    open_I &= np.sum(open_I) <= most  # more intervals mean that only rounding is left
    total_R += np.bincount(row_I[~open_I], sum(halves_2I)[~open_I], len(total_R))
    if not open_I.any():
      return total_R.reshape(p.mean().shape)
    pairs = halves_2I, (row_I, row_I), (low_I, middle_I), (middle_I, high_I)
    split = [np.concatenate([left[open_I], right[open_I]]) for left, right in pairs]
    whole_I, row_I, low_I, high_I = split


def _intervals(p, *others):
  """Return row, low and high of intervals [I] between knots, within the range of p's knots.

  All distributions are [R, 1].
  """
  knots = [q.knots() for q in (p, *others)]
  low_R1, high_R1 = knots[0][0][..., 0], knots[0][0][..., -1]

  def thin(knots_RP, apart_R1):
    """Return NaN for knots that are neither first in a stretch of `apart` nor last before a gap."""
    knots_RP = np.clip(knots_RP, low_R1, high_R1)
    place_RP = np.floor((knots_RP - low_R1) / apart_R1)
    gap_RP = np.diff(knots_RP, append=np.inf)
    return np.where((np.diff(place_RP, prepend=-1) > 0) | (gap_RP > apart_R1), knots_RP, np.nan)

  knots_RP = np.sort(
    np.concatenate([high_R1, *(thin(at[:, 0], apart_R1) for at, apart_R1 in knots)], 1)
  )  # NaN last
  row_I, at_I = np.nonzero(knots_RP[:, 1:] > knots_RP[:, :-1])
  return row_I, knots_RP[row_I, at_I], knots_RP[row_I, at_I + 1]


def _log_mean_exp(x):
  """Return log(mean(exp(x))) over the last axis."""
  top = x.max(-1, keepdims=True)
  return np.log(np.exp(x - top).mean(-1)) + top[..., 0]


def _mean_absolute(mean, std):
  """Return E|N(mean, std^2)|."""
  z = mean / std
  return mean * special.erf(z / math.sqrt(2)) + std * math.sqrt(2 / math.pi) * np.exp(-(z**2) / 2)


class StudentT(NamedTuple):
  """The predictive distribution of a predictive.NormalWishart, with the same parameters."""

  mean_BD: np.ndarray
  log_var_BD: np.ndarray
  log_kappa_BD: np.ndarray
  log_dof_BD: np.ndarray

  def mean(self):
    return self.mean_BD

  def data(self):
    return np.exp(self.log_var_BD)

  def knowledge(self):
    return np.exp(self.log_var_BD - self.log_kappa_BD)

  def _standard(self):
    """Return the degrees of freedom and the log scale."""
    log_total_BD = self.log_var_BD + np.logaddexp(0, -self.log_kappa_BD)
    log_share_BD = -np.logaddexp(0, math.log(2) - self.log_dof_BD)  # (nu - 2) / nu
    return 2 + np.exp(self.log_dof_BD), (log_total_BD + log_share_BD) / 2

  def _log_peak(self):
    """Return the log of (density at the mean times scale)."""
    nu_BD, _ = self._standard()
    return np.log(special.poch(nu_BD / 2, 0.5)) - np.log(math.pi * nu_BD) / 2

  def log_pdf(self, y_BND):
    """Return the log density at N points an example: [B, N, D]."""
    nu_B1D, log_scale_B1D, log_peak_B1D = (
      a[:, None] for a in (*self._standard(), self._log_peak())
    )
    z_BND = (y_BND - self.mean_BD[:, None]) / np.exp(log_scale_B1D)
    return log_peak_B1D - log_scale_B1D - (nu_B1D + 1) / 2 * np.log1p(z_BND**2 / nu_B1D)

  def log_prob(self, y_BD):
    """Return the joint log density [B]. Targets are independent."""
    return self.log_pdf(y_BD[:, None])[:, 0].sum(-1)

  def cdf(self, y_BD):
    nu_BD, log_scale_BD = self._standard()
    return special.stdtr(nu_BD, (y_BD - self.mean_BD) / np.exp(log_scale_BD))

  def quantile(self, q):
    nu_BD, log_scale_BD = self._standard()
    return self.mean_BD + np.exp(log_scale_BD) * special.stdtrit(nu_BD, q)

  def crps(self, y_BD):
    """Return the CRPS in closed form (Jordan, Krueger and Lerch 2019).

    It is the scale times, with z = (y - mean) / scale:
    z (2 F(z) - 1) + (2 f(z) (nu + z^2) - 2 sqrt(nu) B(1/2, nu - 1/2) / B(1/2, nu/2)^2) / (nu - 1)
    """
    nu_BD, log_scale_BD = self._standard()
    scale_BD = np.exp(log_scale_BD)
    z_BD = (y_BD - self.mean_BD) / scale_BD
    pdf_BD = np.exp(self.log_pdf(y_BD[:, None])[:, 0] + log_scale_BD)
    spread_BD = 2 * np.sqrt(nu_BD / math.pi) * special.poch(nu_BD / 2, 0.5) ** 2
    spread_BD /= (nu_BD - 1) * special.poch(nu_BD - 0.5, 0.5)
    first_BD = z_BD * (2 * special.stdtr(nu_BD, z_BD) - 1)
    return scale_BD * (first_BD + 2 * pdf_BD * (nu_BD + z_BD**2) / (nu_BD - 1) - spread_BD)

  def knots(self):
    """Return sorted points around the mean [B, D, P], and their distance [B, D]."""
    scale_BD = np.exp(self._standard()[1])
    return self.mean_BD[..., None] + scale_BD[..., None] * np.sort(_SPREAD), _APART * scale_BD

  def entropies(self):
    """Return differential entropies: total of the Student's t, data E H[N], their difference."""
    nu_BD, _ = self._standard()
    # E log Lambda = psi(nu / 2) - log(rate), rate = (nu - 2) exp(log_var) / 2
    log_rate_BD = self.log_dof_BD + self.log_var_BD - math.log(2)
    data_BD = (_LOG_2PI + 1 + log_rate_BD - special.digamma(nu_BD / 2)) / 2
    knowledge_BD = np.logaddexp(0, -self.log_kappa_BD) / 2 + _of_precision(nu_BD / 2)
    return data_BD + knowledge_BD, data_BD, knowledge_BD


def _of_precision(h):
  """Return the mutual information of y and its precision, for a known mean and h = nu / 2.

  It is (h + 1/2) (psi(h + 1/2) - psi(h)) - log(Gamma(h + 1/2) / Gamma(h)) + psi(h) / 2 - 1/2. Its
  terms cancel for large h, where the series 1/(4h) + ... is used.
  """
  r = 1 / np.maximum(h, 16)
  series = (1 / 4, 1 / 48, -1 / 48, -7 / 1920, 3 / 320, 31 / 16128, -17 / 1792, -127 / 61440)
  few = np.minimum(h, 16)
  psi = special.digamma(few)
  direct = (few + 0.5) * (special.digamma(few + 0.5) - psi) + (psi - 1) / 2
  direct -= np.log(special.poch(few, 0.5))
  return np.where(h > 16, r * np.polynomial.polynomial.polyval(r, series), direct)
