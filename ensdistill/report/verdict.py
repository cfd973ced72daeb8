"""The answer at a glance: how much of the ensemble a student keeps, and what it costs."""

import math
from typing import NamedTuple

from ensdistill.report import columns
from ensdistill.report.tables import is_student


class Gap(NamedTuple):
  """How much of the way from one member to the ensemble a student goes, by one metric."""

  metric: str
  title: str
  closed: float
  error: float | None  # over the student's seeds


class Gaps(NamedTuple):
  """All metrics that the verdict weighs, and why some have no bar."""

  closed: list[Gap]
  no_gap: list[str]  # member and ensemble are too close to tell apart
  worse: list[str]  # the ensemble is worse than one member: nothing to strive for
  behind: list[str]  # the student itself is worse than one member


def of(rows: list[dict]) -> tuple[dict, dict | None, list[dict]]:
  """The rows of one member, of the largest ensemble (None without one), of the students."""
  ensembles = [row for row in rows if row['name'].startswith('ensemble-')]
  return rows[0], (ensembles[-1] if ensembles else None), [r for r in rows if is_student(r)]


def gaps(rows: list[dict], student: dict) -> Gaps:
  """The gap_closed of a student's row, sorted into what can be judged and what cannot."""
  member, ensemble, _ = of(rows)
  found = Gaps([], [], [], [])
  if ensemble is None:
    return found
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
      error = student['se'].get(f'gap_closed/{metric}') if student['seeds'] > 1 else None
      found.closed.append(Gap(metric, title, closed, error))
  return found


def _behind(metric, member, student) -> bool:
  """Is the student worse than one member, by more than two standard errors of either?"""
  lead = student['metrics'][metric] - member['metrics'][metric]
  errors = [row['se'].get(metric) or 0.0 for row in (member, student)]
  return (lead if columns.higher_is_better(metric) else -lead) < -2 * math.hypot(*errors)


def merit(gap: Gap) -> float:
  """What makes a gap the better closed one: closed further, or matched more nearly."""
  return -abs(gap.closed - 1) if gap.metric in columns.MATCHED else gap.closed


def sentence(label: str, rows: list[dict], student: dict) -> str:
  """What a student is worth, in a sentence or two."""
  member, ensemble, _ = of(rows)
  if ensemble is None:
    return f'{label}: the teacher is one network, so there is no ensemble to compare with.'
  size = int(ensemble['name'].partition('-')[2])
  found = gaps(rows, student)
  closed = {gap.metric: gap for gap in found.closed}
  main = [key for key in ('cnll', 'nll', 'rmse', 'acc') if key in closed][:2]
  if 'cnll' in main and 'nll' in main:
    main = ['cnll', *(['acc'] if 'acc' in closed else [])]
  between = f'between one network and the ensemble of {size}'
  won = [closed[key] for key in main if closed[key].closed > 0]
  if won:
    parts = [f'{percent(gap)} % of the gap in {gap.title}' for gap in won]
    text = f'{label} closes {" and ".join(parts)} {between}'
  elif main:
    text = f'{label} closes none of the gap in {_listed([closed[k].title for k in main])} {between}'
  else:
    text = f'{label}: {between} there is no gap to measure'
  dee = student['metrics'].get('dee')
  if dee is not None:
    text += f', is worth {"at least " if dee >= size else ""}{dee:.1f} of its members'
  behind = f' It is worse than one network in {_listed(found.behind)}.' if found.behind else ''
  return f'{text}{_costs(student, ensemble)}.{behind} {_disagreement(student, ensemble)}'.strip()


def percent(gap: Gap) -> str:
  """The gap closed and its standard error, in percent: '55 ± 27'."""
  return f'{round(100 * gap.closed):d}{f" ± {100 * gap.error:.0f}" if gap.error else ""}'


def _costs(student, ensemble) -> str:
  parts = []
  for key, words in (('params', 'parameters'), ('ms_per_example', 'time')):
    ours, theirs = student['metrics'].get(key), ensemble['metrics'].get(key)
    if ours and theirs:
      parts.append(f'{ours / theirs:.2g} × its {words}')
  return f', at {" and ".join(parts)}' if parts else ''


def _disagreement(student, ensemble) -> str:
  """Does the student know what it does not know?"""
  ours, theirs = student['metrics'].get('knowledge'), ensemble['metrics'].get('knowledge')
  if ours is None or not theirs:
    return ''
  if ours < 1e-6 * theirs:
    return 'It cannot tell knowledge from data uncertainty: it is one network with one prediction.'
  return f'Its knowledge uncertainty is {ours / theirs:.2f} × the ensemble’s on the test set.'


def comparison(rivals: list[tuple[str, list[dict], dict]]) -> list[str]:
  """Of several students (label, rows of their run, row): which closes most of which gap."""
  best: dict[str, tuple[Gap, str]] = {}
  for label, rows, student in rivals:
    for gap in gaps(rows, student).closed:
      if gap.metric not in best or merit(gap) > merit(best[gap.metric][0]):
        best[gap.metric] = gap, label
  if not best:
    return ['No run has a gap between one network and the ensemble that could be measured.']
  leaders: dict[str, list[str]] = {}
  for gap, label in best.values():
    if gap.closed > 0:
      leaders.setdefault(label, []).append(f'{gap.title} {percent(gap)} %')
  found = [
    f'{label} goes furthest in {_listed(words)} of the gap.' for label, words in leaders.items()
  ]
  nowhere = [gap.title for gap, _ in best.values() if gap.closed <= 0]
  return found + ([f'No student closes any of the gap in {_listed(nowhere)}.'] if nowhere else [])


def _listed(words: list[str]) -> str:
  return ', '.join(words[:-1]) + f' and {words[-1]}' if len(words) > 1 else words[0]
