"""Statistics over repeated runs: nested means, paired differences, closed gaps, and ranks.

Values are {(teacher, seed): value}. Students of one teacher are not independent, so with several
teachers the spread over teachers decides the standard errors.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ensdistill.evaluation.gaps import TOLD

Values = Mapping[tuple[int, int], float]


class Estimate(NamedTuple):
  """A mean with its standard error."""

  mean: float
  error: float | None  # None: one value, so there is no spread
  teachers: int
  runs: int

  def told(self, better: str, margin: float = 0.0) -> int:
    """Return 1 where a difference is an improvement, -1 where it is the opposite, 0 within noise.

    It is either by more than two standard errors. `better` says which values are, 'higher' or
    'lower'. `margin` is how much worse a difference may be to count as zero. A difference without
    a standard error is not told from noise.
    """
    lead = (self.mean if better == 'higher' else -self.mean) + margin
    if self.error is None or abs(lead) <= TOLD * self.error:
      return 0
    return 1 if lead > 0 else -1

  def text(self, form: Callable[[float], str], of_error: Callable[[float], str] | None = None):
    """Return 'mean ± error', or the mean alone where the error is not known."""
    mean = form(self.mean)
    return mean if self.error is None else f'{mean} ± {(of_error or form)(self.error)}'


def nested(values: Values) -> Estimate | None:
  """Return the mean over teachers of the mean over seeds, and its standard error.

  With means m_t of T > 1 teachers, the error is std(m_t) / sqrt(T): it holds the spread over
  teachers and what the seeds add to it. With one teacher it is std / sqrt(S) over the S seeds,
  which says nothing about other teachers. Return None without a finite value.
  """
  by_teacher = means(values)
  if not by_teacher:
    return None
  several = list(by_teacher.values())
  if len(several) == 1:
    several = [v for v in values.values() if math.isfinite(v)]
  runs = sum(math.isfinite(v) for v in values.values())
  mean = float(np.mean(list(by_teacher.values())))
  return Estimate(mean, standard_error(several), len(by_teacher), runs)


def means(values: Values) -> dict[int, float]:
  """Return {teacher: mean over its seeds} of the finite values."""
  by_teacher: dict[int, list[float]] = {}
  for (teacher, _), value in sorted(values.items()):
    if math.isfinite(value):
      by_teacher.setdefault(teacher, []).append(value)
  return {teacher: float(np.mean(several)) for teacher, several in by_teacher.items()}


def standard_error(values: Sequence[float]) -> float | None:
  """Return std / sqrt(n), with n - 1 degrees of freedom; None for a single value."""
  return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def paired(values: Values, baseline: Values) -> Estimate | None:
  """Return the nested mean of value - baseline over the (teacher, seed) that both have."""
  both = values.keys() & baseline.keys()
  return nested({key: values[key] - baseline[key] for key in both})


def gap_closed(member: Values, ensemble: Values, student: Values) -> Estimate | None:
  """Return the share of the gap between one member and the ensemble that the student closes.

  The ratio of means g = mean_t(a_t) / mean_t(b_t) over the teachers, with a_t = member - student
  and b_t = member - ensemble. Its error is that of a ratio estimator (Cochran, 1977, section 6.4):
  std(a_t - g b_t) / (sqrt(T) |mean(b)|). Return None where the mean gap is within two of its
  standard errors. One teacher has no spread: then its seeds give the error.
  """
  before, after, found = means(member), means(ensemble), means(student)
  teachers = sorted(before.keys() & after.keys() & found.keys())
  gaps = np.array([before[t] - after[t] for t in teachers])
  if not teachers or not gaps.mean():
    return None
  width, error = float(gaps.mean()), standard_error(gaps.tolist())
  if error is not None and abs(width) <= TOLD * error:
    return None
  runs = sum(teacher in teachers for teacher, _ in student)
  if len(teachers) == 1:
    (teacher,) = teachers
    closed = {k: (before[teacher] - v) / width for k, v in student.items() if k[0] == teacher}
    return nested(closed)
  closing = np.array([before[t] - found[t] for t in teachers])
  share = float(closing.mean() / width)
  residual = standard_error((closing - share * gaps).tolist())
  assert residual is not None
  return Estimate(share, residual / abs(width), len(teachers), runs)


class Ranks(NamedTuple):
  """Mean ranks of k models over N blocks, 1 for the best, and what they can separate."""

  ranks: list[float]
  blocks: int
  p_value: float  # of the Friedman test: that all models rank alike
  critical_difference: float  # of Nemenyi's test: mean ranks that differ by less are not separated


def ranks(values_NK, higher_is_better: bool, alpha: float = 0.05) -> Ranks | None:
  """Return the mean ranks of K models over N blocks; None with fewer than two of either.

  Ties share their mean rank. The test is Friedman's with the correction of Iman and Davenport,
  F = (N - 1) X / (N (K - 1) - X), where X is Friedman's statistic (corrected for ties), with
  (K - 1, (K - 1) (N - 1)) degrees of freedom. The critical difference is Nemenyi's,
  q sqrt(K (K + 1) / (6 N)), where q is the quantile of the studentised range of K means and
  infinite degrees of freedom, over sqrt(2) (Demsar, JMLR 7, 2006).
  """
  from scipy import stats

  values_NK = np.asarray(values_NK, np.float64)
  if values_NK.ndim != 2 or min(values_NK.shape) < 2:
    return None
  blocks, models = values_NK.shape
  ordered = stats.rankdata(-values_NK if higher_is_better else values_NK, axis=1)
  mean = ordered.mean(0)
  between = blocks * float(((mean - (models + 1) / 2) ** 2).sum())
  within = float(((ordered - (models + 1) / 2) ** 2).sum()) / (blocks * (models - 1))
  statistic = between / within if within else 0.0
  rest = blocks * (models - 1) - statistic
  f_value = (blocks - 1) * statistic / rest if rest > 1e-12 else math.inf
  p_value = float(stats.f.sf(f_value, models - 1, (models - 1) * (blocks - 1)))
  quantile = float(stats.studentized_range.ppf(1 - alpha, models, np.inf)) / 2**0.5
  difference = quantile * (models * (models + 1) / (6 * blocks)) ** 0.5
  return Ranks(mean.tolist(), blocks, p_value, difference)
