"""What an experiment runs: the sweeps of its folder, and which of their runs are missing.

An experiment's script is `python -m experiments.NAME.run`; further options are those of
`ensdistill sweep`, such as --status, --smoke, --teachers=1 or --slice-seconds=3600.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ensdistill.sweep import jobs, models

HERE = pathlib.Path(__file__).resolve().parent


class Plan(NamedTuple):
  """One sweep: methods, the settings that vary, and those that all runs share."""

  folder: str  # in experiments/
  data: str  # DATA[:variant]
  methods: tuple[str, ...]
  varied: tuple[str, ...] = ()  # as --set takes them, with values as tables show them
  fixed: Mapping[str, Any] = {}
  teachers: int = 3
  seeds: int = 2
  baseline: str = 'kd'

  @property
  def path(self) -> pathlib.Path:
    """The folder of the sweep."""
    return HERE / self.folder

  def arguments(self, out: pathlib.Path | None = None) -> list[str]:
    """Return the arguments of `ensdistill sweep`."""
    return [
      ','.join(self.methods),
      self.data,
      *(f'--set={text}' for text in self.varied),
      *(f'--config.{name}={jobs.shown(value)}' for name, value in self.fixed.items()),
      f'--teachers={self.teachers}',
      f'--seeds={self.seeds}',
      *([f'--baseline={self.baseline}'] if self.baseline in self.methods else []),
      f'--out={out or self.path}',
    ]

  def labels(self) -> list[str]:
    """Return the names of its students in tables."""
    settings = [jobs.parse_set(text, self.methods) for text in self.varied]
    return [
      jobs.labelled(method, chosen)
      for method in self.methods
      for chosen in jobs.combinations(settings, method)
    ]


def run(plan: Plan, options: Sequence[str], out: pathlib.Path | None = None) -> int:
  """Run or continue a sweep and return its exit code; of an option given twice the last counts."""
  from ensdistill.commands import sweep
  from ensdistill.commands.usage import pipe_may_close

  try:
    with pipe_may_close():
      sweep.main([*plan.arguments(out), *options], prog=f'python -m experiments.{plan.folder}.run')
  except SystemExit as end:
    return end.code if isinstance(end.code, int) else 1
  return 0


def missing(plan: Plan, records: Sequence[dict]) -> str:
  """Return what of a plan has not run: a sentence for the end of its tables; '' if all has."""
  whole = plan.teachers * plan.seeds
  counts = {label: 0 for label in plan.labels()}
  for record in records:
    label = models.kind_label(record)
    if label in counts:
      counts[label] += 1
  none = [f'`{label}`' for label, count in counts.items() if not count]
  some = [f'`{label}` ({count} of {whole})' for label, count in counts.items() if 0 < count < whole]
  text = f'Not run: {", ".join(none)}.' if none else ''
  partly = f'Not finished (runs): {", ".join(some)}.' if some else ''
  return ' '.join(filter(None, [text, partly]))


def hours(records: Sequence[dict]) -> float:
  """Return the hours of all runs, one after the other."""
  return sum(record['seconds'] for record in records) / 3600


def machines(records: Sequence[dict]) -> str:
  """Return the processors that the runs were made on."""
  return ', '.join(sorted({record['versions']['processor'] for record in records}))
