"""Standard errors of metrics and of their differences, from the rows of results.json.

A row's error has two parts: the repeats (members, or students of several seeds) and the finite
number of test examples. Two rows of one test set see the same examples, so the error of their
difference is smaller than that of either; where it is known it is used.
"""

import math

from ensdistill.evaluation.rows import ENSEMBLE, MEMBER, of_name


def of_repeats(row: dict, key: str) -> float | None:
  """Return the standard error of a metric over a row's repeats, or the spread of its timings."""
  return row['se'].get(key) or row['metrics'].get(f'{key}/spread')


def of_row(row: dict, key: str) -> float | None:
  """Return the standard error of a row's metric, from repeats and test examples."""
  return _together(of_repeats(row, key), row.get('test_se', {}).get(key))


def _together(*errors: float | None) -> float | None:
  known = [error for error in errors if error]
  return math.hypot(*known) if known else None


def of_difference(ours: dict, theirs: dict, key: str, *, same_run: bool, same_teacher: bool):
  """Return the standard error of the difference of two rows; None if it is not known.

  same_run: both rows are of one run. same_teacher: they are of runs with the same teacher and test
  set, whose students can be compared by way of the ensemble.
  """
  tested = [row.get('test_se', {}).get(key) for row in (ours, theirs)]
  repeats = [of_repeats(row, key) for row in (ours, theirs)]
  if key.startswith(('ms_per_example', 'time_ratio')):
    return _together(*repeats)
  if None in tested:
    return _together(*repeats) if None not in repeats else None
  of_teacher = {row['role'] for row in (ours, theirs)} & {MEMBER, ENSEMBLE}
  paired = None
  if same_run or same_teacher and of_teacher:
    paired = _paired(ours, theirs, key)
  elif same_teacher:
    paired = _by_way_of_the_teacher(ours, theirs, key)
  apart = math.hypot(*(error or 0.0 for error in tested))
  return math.hypot(*(error or 0.0 for error in repeats), apart if paired is None else paired)


def _paired(ours: dict, theirs: dict, key: str) -> float | None:
  """Return the error of the difference over the test examples, as one of the rows has it."""
  for row, other in ((ours, theirs), (theirs, ours)):
    found = row.get('paired', {}).get(other['name'], {}).get(key)
    if found is not None:
      return found
  return None


def _by_way_of_the_teacher(ours: dict, theirs: dict, key: str) -> float | None:
  """Return the error of the difference of two students from their differences to one row."""
  found = []
  for name in {*ours.get('paired', {})} & {*theirs.get('paired', {})}:
    errors = [row['paired'][name].get(key) for row in (ours, theirs)]
    if of_name(name)['role'] in (MEMBER, ENSEMBLE) and None not in errors:
      found.append(math.hypot(*errors))
  return min(found, default=None)


def of_gap(member: dict, ensemble: dict, student: dict, key: str) -> float | None:
  """Return the test examples' standard error of (member - student) / (member - ensemble)."""
  values = [row['metrics'].get(key) for row in (member, ensemble, student)]
  gained, closed = _paired(member, ensemble, key), _paired(member, student, key)
  left = _paired(student, ensemble, key)
  if gained is None or closed is None or left is None:
    return None
  if None in values or values[0] == values[1]:
    return None
  share = (values[0] - values[2]) / (values[0] - values[1])
  together = (gained**2 + closed**2 - left**2) / 2  # the covariance of gained and closed
  variance = closed**2 + share**2 * gained**2 - 2 * share * together
  return math.sqrt(max(variance, 0.0)) / abs(values[0] - values[1])
