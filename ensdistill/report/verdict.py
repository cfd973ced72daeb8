"""The verdict of a report: the share of the ensemble's gain that a student keeps, and its cost."""

import math
from typing import NamedTuple

from ensdistill.evaluation.gaps import TOLD, percent_closed
from ensdistill.evaluation.rows import MEMBER, largest_ensemble, of_role
from ensdistill.report import columns, noise


class Gap(NamedTuple):
  """The share of the gap between one member and the ensemble that a student closes, by a metric."""

  metric: str
  title: str
  closed: float
  error: float | None  # over the student's seeds and the test examples


class Gaps(NamedTuple):
  """The metrics of the verdict, sorted by what they can say."""

  closed: list[Gap]
  no_gap: list[str]  # member and ensemble do not differ significantly
  worse: list[str]  # the ensemble is worse than one member
  behind: list[str]  # the student is worse than one member


def gaps(rows: list[dict], student: dict) -> Gaps:
  """Return the metrics of a student's row, sorted by what they can say."""
  ensemble, found = largest_ensemble(rows), Gaps([], [], [], [])
  if ensemble is None:
    return found
  (member,) = of_role(rows, MEMBER)
  for metric, title in columns.gap_names(rows).items():
    before, after = member['metrics'].get(metric), ensemble['metrics'].get(metric)
    if before is None or after is None or student['metrics'].get(metric) is None:
      continue
    if metric not in columns.MATCHED and _behind(metric, member, student):
      found.behind.append(title)
    closed = student['metrics'].get(f'gap_closed/{metric}')
    if closed is None:
      found.no_gap.append(title)
    elif (after > before) != columns.higher_is_better(metric):
      found.worse.append(title)
    else:
      of_seeds = student['se'].get(f'gap_closed/{metric}')
      errors = [e for e in (of_seeds, noise.of_gap(member, ensemble, student, metric)) if e]
      found.closed.append(Gap(metric, title, closed, math.hypot(*errors) if errors else None))
  return found


def _behind(metric: str, member: dict, student: dict) -> bool:
  """Return whether the student is worse than one member by more than two standard errors."""
  lead = student['metrics'][metric] - member['metrics'][metric]
  error = noise.of_difference(student, member, metric, same_run=True, same_teacher=True)
  if error is None:  # of results without errors of the test examples
    error = math.hypot(*(row['se'].get(metric) or 0.0 for row in (member, student)))
  return (lead if columns.higher_is_better(metric) else -lead) < -TOLD * error


def merit(gap: Gap) -> float:
  """Return a number that is higher for the better student: closed further, or matched better."""
  return -abs(gap.closed - 1) if gap.metric in columns.MATCHED else gap.closed


def sentence(label: str, rows: list[dict], student: dict) -> str:
  """Return the verdict on a student in a few sentences."""
  ensemble = largest_ensemble(rows)
  if ensemble is None:
    why = (
      'the teacher is one network' if of_role(rows, MEMBER) else 'its test outputs are not given'
    )
    return f'{label}: there is no ensemble to compare with, because {why}.'
  found = gaps(rows, student)
  parts = [
    f'{_closes(label, found.closed, ensemble["size"])}.',
    _equivalent(student, ensemble['size']),
    _costs(student, ensemble),
    f'It is worse than one network in {_listed(found.behind)}.' if found.behind else '',
    _disagreement(student, ensemble),
  ]
  return ' '.join(filter(None, parts))


def _closes(label: str, gaps: list[Gap], size: int) -> str:
  """Return how much of the gap the student closes, by the two main metrics."""
  closed = {gap.metric: gap for gap in gaps}
  main = [key for key in ('cnll', 'nll', 'rmse', 'acc') if key in closed][:2]
  if main == ['cnll', 'nll']:
    main = ['cnll', *(['acc'] if 'acc' in closed else [])]
  between = f'between one network and the ensemble of {size}'
  if not main:
    return f'{label}: there is no measurable gap {between}'
  won = [closed[key] for key in main if closed[key].closed > 0]
  if not won:
    titles = _listed([closed[key].title for key in main])
    return f'{label} closes none of the gap in {titles} {between}'
  parts = [f'{percent(gap)} % of the gap in {gap.title}' for gap in won]
  return f'{label} closes {" and ".join(parts)} {between}'


def percent(gap: Gap) -> str:
  """Return the gap closed and its standard error in percent: '55 ± 27'."""
  return percent_closed(gap.closed, gap.error)


def _equivalent(student: dict, size: int) -> str:
  """Return the size of the ensemble that the student equals (deep-ensemble equivalent)."""
  dee = student['metrics'].get('dee')
  if dee is None:
    return ''
  members = f'at least {size}' if dee >= size else f'{dee:.1f}'
  return f'It equals an ensemble of {members} members (DEE).'


def _costs(student: dict, ensemble: dict) -> str:
  parts = []
  for key, words in ((columns.PARAMETERS.key, 'parameters'), (columns.TIME.key, 'time')):
    ours, theirs = student['metrics'].get(key), ensemble['metrics'].get(key)
    if ours and theirs:
      parts.append(f'{columns.significant(2)(ours / theirs)} × the ensemble’s {words}')
  return f'It needs {" and ".join(parts)}.' if parts else ''


def _disagreement(student: dict, ensemble: dict) -> str:
  """Return whether the student has knowledge uncertainty, and how much."""
  ours, theirs = student['metrics'].get('knowledge'), ensemble['metrics'].get('knowledge')
  if ours is None or not theirs:
    return ''
  if ours < 1e-6 * theirs:
    return 'It makes one prediction per input, so it cannot tell knowledge from data uncertainty.'
  return f'On the test set its knowledge uncertainty is {ours / theirs:.2f} × the ensemble’s.'


def comparison(rivals: list[tuple[str, list[dict], dict]]) -> list[str]:
  """Return which of several students (label, rows of the run, row) closes which gap best."""
  found: dict[str, list[tuple[Gap, str]]] = {}
  for label, rows, student in rivals:
    for gap in gaps(rows, student).closed:
      found.setdefault(gap.metric, []).append((gap, label))
  if not found:
    return ['No run has a measurable gap between one network and the ensemble.']
  leaders: dict[str, list[str]] = {}
  nowhere, alike = [], []
  for entries in found.values():
    entries = sorted(entries, key=_by_merit, reverse=True)
    gap, label = entries[0]
    if gap.closed <= 0:
      nowhere.append(gap.title)
      continue
    near = [(other, name) for other, name in entries[1:] if not told_apart(other, gap)]
    if near and len(near) == len(entries) - 1:
      alike.append(gap.title)
    else:
      others = [f'{name} {percent(other)} %' for other, name in near if other.closed > 0]
      noise = f' (within noise: {_listed(others)})' if others else ''
      leaders.setdefault(label, []).append(f'{gap.title} {percent(gap)} %{noise}')
  lines = [f'{label} closes the gap best: {", ".join(words)}.' for label, words in leaders.items()]
  lines += [f'The students differ by less than the noise in {_listed(alike)}.'] if alike else []
  return lines + ([f'No student closes any of the gap in {_listed(nowhere)}.'] if nowhere else [])


def _by_merit(entry: tuple[Gap, str]) -> float:
  return merit(entry[0])


def told_apart(ours: Gap, theirs: Gap) -> bool:
  """Return whether two gaps differ by more than two standard errors, or have none."""
  errors = [gap.error for gap in (ours, theirs) if gap.error]
  apart = abs(merit(ours) - merit(theirs))
  return ours is not theirs and (not errors or apart > TOLD * math.hypot(*errors))


def _listed(words: list[str]) -> str:
  return ', '.join(words[:-1]) + f' and {words[-1]}' if len(words) > 1 else words[0]
