"""The gap between one member and the ensemble, and the share of it that a student closes."""

import math

from ensdistill.evaluation import rows

TOLD = 2.0  # standard errors from which on a difference is told from noise
# Shares of a gap beyond these have no digits: they say more of a small gap than of the student.
LEAST_CLOSED, MOST_CLOSED = -1.0, 10.0


def closed(member, ensemble, student, *, member_se=0.0, test_se=0.0):
  """Return (member - student) / (member - ensemble): 0 is one network, 1 the ensemble.

  The formula fits any metric. None is returned where a value is missing or not finite, and where
  the gap between member and ensemble is zero, less than two of its standard errors, or of unknown
  error (NaN). This standard error has two parts: the differences between members, and the finite
  size of the test set.
  """
  values = member, ensemble, student
  if any(value is None or not math.isfinite(value) for value in values):
    return None
  gap = member - ensemble
  if gap == 0 or not abs(gap) >= TOLD * math.hypot(member_se, test_se):
    return None
  return (member - student) / gap


def closed_se(member, ensemble, student_se):
  """Return the standard error of the share over the student's seeds, for a fixed ensemble."""
  return student_se / abs(member - ensemble)


def percent_closed(share: float, error: float | None = None) -> str:
  """Return the share of a gap that a student closes, in percent: '55 ± 27', '< -100'."""
  if share < LEAST_CLOSED:
    return f'< {100 * LEAST_CLOSED:.0f}'
  if share > MOST_CLOSED:
    return f'> {100 * MOST_CLOSED:.0f}'
  return f'{round(100 * share):d}{f" ± {100 * error:.0f}" if error else ""}'


def add(found: list[dict], test_errors=None) -> None:
  """Add gap_closed/x = (member - student) / (member - ensemble), null where there is no gap.

  test_errors: {metric: standard error of the gap from the test examples}, where known.
  """
  (member,), ensembles = rows.of_role(found, rows.MEMBER), rows.of_role(found, rows.ENSEMBLE)
  if not ensembles:
    return
  for student in rows.of_role(found, *rows.STUDENTS):
    for key, error in member['se'].items():
      if key.startswith('train/'):  # these measure the fit, not quality
        continue
      values = [r['metrics'].get(key) for r in (member, ensembles[-1], student)]
      errors = {'member_se': error or 0.0, 'test_se': (test_errors or {}).get(key, 0.0)}
      gap = closed(*values, **errors)
      student['metrics'][f'gap_closed/{key}'] = gap
      if gap is not None and student['se'].get(key) is not None:
        error = closed_se(values[0], values[1], student['se'][key])
        student['se'][f'gap_closed/{key}'] = error
