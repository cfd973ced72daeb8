"""How long a sweep will take: from its finished runs, or from a few steps of each kind."""

import json
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ensdistill.logs import events
from ensdistill.storage import safe
from ensdistill.sweep.jobs import Job

STEPS = 24  # of each stage of a smoke run


class Cost(NamedTuple):
  """Seconds of a run of one kind."""

  own: float  # student, evaluation and report
  teacher: float  # its teacher, if it has to be trained


def of_records(records: Iterable[dict]) -> dict[str, Cost]:
  """Return {kind: cost} from records by kind; a teacher that was found costs nothing there."""
  own: dict[str, list[float]] = {}
  teachers: dict[str, float] = {}
  found = list(records)
  for record in found:
    seconds = record['timings'].get('teacher', 0.0)
    own.setdefault(record['kind'], []).append(max(record['seconds'] - seconds, 0.0))
    key = record['ensemble']
    teachers[key] = max(teachers.get(key, 0.0), seconds)
  ensembles = {record['kind']: record['ensemble'] for record in found}
  return {
    kind: Cost(statistics.fmean(values), teachers[ensembles[kind]]) for kind, values in own.items()
  }


def seconds(
  left: Sequence[Job], trained: Iterable[tuple[str, int]], costs: Mapping[str, Cost]
) -> float | None:
  """Return the seconds that the jobs will take one after the other; None if nothing is known.

  trained: (ensemble, teacher) that are stored. Each other teacher is trained once. A kind without a
  cost takes as long as the others do on average.
  """
  if not costs:
    return None if left else 0.0
  typical = statistics.fmean(cost.own for cost in costs.values())
  longest = max(cost.teacher for cost in costs.values())
  teachers: dict[str, float] = {}
  for job in left:
    if cost := costs.get(job.kind.name):  # the teacher of a kind that found it costs nothing
      teachers[job.kind.ensemble] = max(teachers.get(job.kind.ensemble, 0.0), cost.teacher)
  done, total = set(trained), 0.0
  for job in left:
    cost = costs.get(job.kind.name)
    total += cost.own if cost else typical
    ensemble = job.kind.ensemble, job.teacher
    if ensemble not in done:
      done.add(ensemble)
      total += teachers.get(job.kind.ensemble, longest)
  return total


class Stage(NamedTuple):
  """The length of a training stage."""

  name: str
  steps: int
  validations: int


def of_smoke(
  folder: pathlib.Path, wall: float, timings: Mapping, full: Sequence[Stage], run: Sequence[Stage]
) -> Cost:
  """Return the cost of a full run from a run of a few steps in `folder`.

  The first stage is the teacher's. What is neither a step nor a validation (start, compiling,
  evaluation, report) takes as long as in the short run.
  """
  more = []
  for long, short in zip(full, run):
    step, validation = rates(folder / 'tb', long.name)
    steps, validations = long.steps - short.steps, long.validations - short.validations
    more.append(steps * step + validations * validation)
  teacher = timings['teacher']
  return Cost(wall - teacher + sum(more[1:]), teacher + more[0])


def rates(folder: pathlib.Path, stage: str) -> tuple[float, float]:
  """Return the seconds of a step and of a validation, from the times of a stage's logged points."""
  times = {key: t for key, t in events.times(folder).items() if key[0].startswith(f'{stage}/')}
  logged = sorted((step, when) for (tag, step), when in times.items() if tag.endswith('/loss'))
  scored = {step: w for (tag, step), w in times.items() if '/valid_' in tag}
  waits = [max(scored[step] - when, 0.0) for step, when in logged if step in scored]
  validation = min(waits, default=0.0)
  if len(logged) < 2:
    return 0.0, validation
  (first, began), (last, ended) = logged[0], logged[-1]
  between = sum(
    scored[step] - when for step, when in logged[:-1] if step in scored and scored[step] > when
  )
  return max(ended - began - between, 0.0) / (last - first), validation


def write(path: pathlib.Path, costs: Mapping[str, Cost]) -> None:
  """Store costs."""
  found = {kind: cost._asdict() for kind, cost in costs.items()}
  safe.write_atomic(path, json.dumps(found, indent=1) + '\n')


def read(path: pathlib.Path) -> dict[str, Cost]:
  """Return stored costs; none where there are none."""
  try:
    return {kind: Cost(**cost) for kind, cost in json.loads(path.read_text()).items()}
  except (OSError, ValueError, TypeError):
    return {}
