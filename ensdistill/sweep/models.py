"""The models of a sweep: every record's rows, gathered over teachers and seeds."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from ensdistill.evaluation.rows import (
  AVERAGED,
  ENSEMBLE,
  MEMBER,
  STUDENT,
  STUDENTS,
  largest_ensemble,
  title,
)
from ensdistill.report import columns
from ensdistill.report.tables import Row
from ensdistill.sweep import statistics
from ensdistill.sweep.jobs import labelled, varies_teacher
from ensdistill.sweep.statistics import Estimate

RUNS = (
  columns.Column('teachers', 'teachers', '{:.0f}'.format),
  columns.Column('runs', 'runs', '{:.0f}'.format),
)


@dataclasses.dataclass
class Model:
  """A row of a sweep's tables: a teacher's role, or one view of a kind's students."""

  label: str
  role: str  # see evaluation.rows
  size: int | None
  method: str  # '' for members and ensembles
  settings: dict[str, Any]
  ensemble: tuple  # settings and size of the teacher
  primary: bool  # the view that the students were trained for
  metrics: dict[tuple[int, int], dict] = dataclasses.field(default_factory=dict)
  errors: dict[tuple[int, int], dict] = dataclasses.field(default_factory=dict)

  @property
  def student(self) -> bool:
    """Whether the row is a student's."""
    return self.role in STUDENTS

  def values(self, metric: str) -> dict[tuple[int, int], float]:
    """Return {(teacher, seed): value} of a metric, where it is defined."""
    found = {key: metrics.get(metric) for key, metrics in self.metrics.items()}
    return {key: value for key, value in found.items() if value is not None}

  @property
  def names(self) -> list[str]:
    """The metrics that one of the runs has, but for closed gaps, which need all runs."""
    every = {k: None for metrics in self.metrics.values() for k in metrics}
    return [key for key in every if not key.startswith('gap_closed/')]


@dataclasses.dataclass
class Group:
  """The models on the same data, with the records that they come from."""

  title: str
  models: list[Model]
  records: list[dict]

  def teachers_of(self, model: Model) -> tuple[Model | None, Model | None]:
    """Return one member and the ensemble that belong to a model."""
    own = [m for m in self.models if m.ensemble == model.ensemble and not m.student]
    found = {m.role: m for m in own}
    return found.get(MEMBER), found.get(ENSEMBLE)

  def students(self, primary: bool = True) -> list[Model]:
    """Return the students, in the view that they were trained for or in the other one."""
    return [m for m in self.models if m.student and m.primary == primary]

  def estimate(self, model: Model, metric: str) -> Estimate | None:
    """Return the mean of a metric with its error; a closed gap is one of the means."""
    if metric.startswith('gap_closed/'):
      return self._gap(model, metric.removeprefix('gap_closed/'))
    found = statistics.nested(model.values(metric))
    if found and found.error is None and len(model.errors) == 1:
      (errors,) = model.errors.values()  # one run: the spread over members
      return found._replace(error=errors.get(metric))
    return found

  def _gap(self, model: Model, metric: str) -> Estimate | None:
    member, ensemble = self.teachers_of(model)
    if not (model.student and member and ensemble):
      return None
    if len({t for t, _ in member.metrics}) == 1:  # one teacher: the runs know whether it has a gap
      return statistics.nested(model.values(f'gap_closed/{metric}'))
    return statistics.gap_closed(*(m.values(metric) for m in (member, ensemble, model)))

  def row(self, model: Model) -> Row:
    """Return a model as a row of the report's tables."""
    keys = model.names
    if model.student:
      member, _ = self.teachers_of(model)
      quality = [*columns.GAPS, *columns.MATCHED]
      keys = keys + [f'gap_closed/{key}' for key in quality if member and key in member.names]
    found = {key: self.estimate(model, key) for key in keys}
    metrics: dict[str, float | None] = {k: e.mean if e else None for k, e in found.items()}
    counts = {'teachers': len({t for t, _ in model.metrics}), 'runs': len(model.metrics)}
    errors = {k: e.error for k, e in found.items() if e}
    row = {'name': model.label, 'role': model.role, 'size': model.size}
    return Row(model.label, row | {'se': errors, 'metrics': metrics | counts})


def by_data(records: Sequence[dict]) -> list[Group]:
  """Return a group for each data set: recipe, variant, and settings of the section data."""
  groups: dict[str, list[dict]] = {}
  for record in records:
    groups.setdefault(data_title(record), []).append(record)
  return [Group(title, _models(found), found) for title, found in groups.items()]


def data_title(record: dict) -> str:
  """Return the name of a record's data."""
  name = record['data'] + (f':{record["variant"]}' if record['variant'] else '')
  return labelled(name, {k: v for k, v in record['settings'].items() if k.startswith('data.')})


def kind_label(record: dict) -> str:
  """Return method and settings of a record, without those of its data."""
  return labelled(record['method'], _without_data(record['settings']))


def _without_data(settings: dict) -> dict:
  return {k: v for k, v in settings.items() if not k.startswith('data.')}


def _models(records: Iterable[dict]) -> list[Model]:
  """Return members and ensembles first, then the students in the order of the records."""
  models: dict[tuple, Model] = {}
  for record in records:
    settings = _without_data(record['settings'])
    own = {k: v for k, v in settings.items() if varies_teacher(k)}
    ensemble = record['ensemble'], record['members']
    largest = largest_ensemble(record['rows'])
    for row in record['rows']:
      role = row['role']
      if role == ENSEMBLE and row is not largest:
        continue
      if role in STUDENTS:
        label, method, of = _student_label(record, role), record['method'], settings
        primary = role == (AVERAGED if record['view'] == 'averaged' else STUDENT)
      else:
        label, method, of, primary = labelled(title(role, row['size']), own), '', own, True
      # Methods that do not vary a setting may share the teacher of one that does.
      key = (role, label, None) if role in STUDENTS else (role, None, ensemble)
      made = Model(label, role, row['size'], method, of, ensemble, primary)
      model = models.setdefault(key, made)
      model.label = min(model.label, label, key=len)
      number = record['teacher'], record['seed'] if role in STUDENTS else 0
      if number not in model.metrics:  # the rows of a teacher are alike in all of its runs
        model.metrics[number], model.errors[number] = row['metrics'], row['se']
  return sorted(models.values(), key=_place)


def _place(model: Model) -> int:
  return {MEMBER: 0, ENSEMBLE: 1}.get(model.role, 2)


def _student_label(record: dict, role: str) -> str:
  label = kind_label(record)
  if role == AVERAGED:
    return f'{label} (averaged)'
  return f'{label} (members)' if record['view'] == 'averaged' else label


def baseline_of(group: Group, model: Model, baseline: str | None) -> Model | None:
  """Return what a student is compared with: a baseline's row, or one member without a baseline.

  Of several rows of a baseline's method it is one with the student's teacher, if there is one, and
  of these the one that shares most settings with the student.
  """
  if baseline is None:
    return group.teachers_of(model)[0]
  rivals = [m for m in group.students() if baseline in (m.method, m.label)]

  def shared(rival: Model) -> tuple[bool, int]:
    same = sum(model.settings.get(k) == v for k, v in rival.settings.items())
    return rival.ensemble == model.ensemble, same

  return max(rivals, key=shared, default=None)


def difference(model: Model, other: Model, metric: str) -> Estimate | None:
  """Return the paired difference of a metric between two models; a teacher has no seeds."""
  ours, theirs = model.values(metric), other.values(metric)
  if not other.student:
    theirs = {key: theirs[key[0], 0] for key in ours if (key[0], 0) in theirs}
  return statistics.paired(ours, theirs)


def blocks(models: Sequence[Model], metric: str) -> list[list[float]]:
  """Return the values of all models in each block that all of them have.

  A block is a teacher, with the mean over its seeds; with a single teacher it is a seed.
  """
  found = [model.values(metric) for model in models]
  several = len({t for values in found for t, _ in values}) > 1
  by_block: list[dict] = [statistics.means(v) if several else v for v in found]
  common = set(by_block[0]).intersection(*by_block[1:]) if by_block else set()
  return [[values[key] for values in by_block] for key in sorted(common)]
