"""The story of a run: configuration, data, plan, teacher, student, evaluation, report.

`prepare` ends with the plan, and `run` goes on from there.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator

from ensdistill import (
  compare,
  distillation,
  export,
  given,
  paths,
  planning,
  processes,
  report,
  resume,
  runtime,
  stopping,
  teacher,
)
from ensdistill.config import estimate, identity, inputs, shared
from ensdistill.config import folder as claims
from ensdistill.config.build import Plan
from ensdistill.evaluation import sets
from ensdistill.logs import sinks, writers
from ensdistill.processes import joining, watching
from ensdistill.storage import checkpoint, safe, seals


class UsageError(ValueError):
  """A mistake in the configuration, which the user can correct."""


def prepare(
  config,
  workdir: str | None = None,
  overwrite: bool = False,
  place: joining.Place = joining.UNKNOWN,
) -> Plan:
  """Check everything that can be checked before anything compiles, and build every part.

  overwrite: starts the run of the folder afresh.
  place: of this process among those that share the run; by default, what its cluster says.
  """
  with _usage_errors():
    _check_paths(config, workdir)
  runtime.prepare(config.cache)
  folder = pathlib.Path(workdir or config.workdir or pathlib.Path('runs', config.name))
  folder = folder.expanduser()
  with _usage_errors():
    stopping.check()
    joining.join(place)
    stopping.tell()
    overwrite = processes.agreed(lambda: overwrite, 'overwrite')
    _start_watchdog(config)
    stopping.check_together()
    shared.check_settings(config)  # as they were given; `check` has those that follow, and the data
    plan = checked(config, folder, overwrite=overwrite)
    shared.check(plan)
    if overwrite or not (folder / 'results.json').exists():  # a finished run trains no more
      estimate.check(plan)
    processes.agreed(lambda: claims.make(folder, overwrite), 'folder')
    with processes.locked(safe.alone(folder)):
      # The claim is last: a refused configuration leaves nothing behind.
      processes.agreed(lambda: claims.take(folder, config, overwrite), 'claim')
    shared.check_folders(plan)
    return _watched(plan)


def checked(
  config, folder: pathlib.Path, load: Callable = inputs.load_data, overwrite: bool = False
) -> Plan:
  """Return the plan of a configuration after all checks; raise ValueError. Nothing is written.

  load: (config, least share of an image that a crop shows) -> the data sets.
  overwrite: what is in the folder does not matter.
  """
  parts = planning.parts(config)
  sinks.chosen(config.sinks)  # refuses what is not installed
  dataset, training = load(config, parts.augment.crop_area)
  say = seals.print_error if processes.first() else writers.Silent().line
  shared.settle_order(config, training.streams, None if overwrite else folder, say)
  ensemble = given.load(config, dataset)
  plan = planning.plan(config, parts, dataset, training, folder, ensemble)
  evaluated = {'ood': config.evaluate.ood, 'shifts': config.evaluate.shift}
  sets.check(dataset, dir=config.data.dir or None, **evaluated)
  with config.unlocked():
    config.data.content = training.fingerprint  # other data of the same name are other data
  return plan


def run(plan: Plan) -> dict:
  """Run teacher, student, evaluation and report, each once; return the results.

  Of several processes that share the run, only the first has them.
  """
  try:
    with _usage_errors(claims.OtherSettings), processes.locked(safe.alone(plan.folder)):
      results = processes.by_first(lambda: _begin(plan))
      if not processes.agreed(lambda: results is not None, 'finished'):
        with _writer(plan) as writer:
          results = _stages(plan, writer)
      checkpoint.remove(plan.folder / 'checkpoints')
  finally:
    watching.rest()
  if processes.first():
    print(report.table(results))
    print(f'page:   {plan.folder / "report.html"} (ensdistill report {plan.folder} --open)')
    print(f'curves: tensorboard --logdir {plan.folder / "tb"}')
  return results or {}


def _begin(plan: Plan) -> dict | None:
  """Take the folder of a run; return the results if the run is finished."""
  claims.take(plan.folder, plan.config)  # another process may have had the folder meanwhile
  safe.sweep_parts(plan.folder)
  (plan.folder / claims.BAD_STEP).unlink(missing_ok=True)  # written again if it still applies
  results = resume.results(plan)
  if results:
    stages = ', '.join(results['timings'])
    print(f'{plan.folder}: already finished ({stages}); --overwrite runs it again', flush=True)
  return results


def _stages(plan: Plan, writer) -> dict:
  """Run the stages one after the other; return the results, in the first process alone."""
  _open(plan, writer)
  timings: dict[str, float] = {}
  try:
    with _timed(timings, 'teacher'):
      ensemble = teacher.obtain(plan, writer)
    with _timed(timings, 'student'):
      student = resume.student(plan, writer) or distillation.distil(plan, ensemble, writer)
    with _timed(timings, 'evaluation'):
      compared = compare.compare(plan, ensemble, student, writer)
    return _report(plan, ensemble, student, compared, timings, writer)
  except stopping.Stopped as stop:
    finished = f'{" and ".join(list(timings)[:2])} finished' if timings else ''
    raise stopping.Stopped(stop.number, stop.saved or finished) from None


def _open(plan: Plan, writer) -> None:
  """Say what the run will do."""
  writer.line('\n'.join(report.opening(plan)))
  stopping.check_together()
  skipped = plan.dataset.skipped
  if skipped:
    writer.line(f'{len(skipped)} image(s) skipped, the first: {skipped[0]}')


def _report(plan: Plan, ensemble, student, compared, timings, writer) -> dict:
  """Store the students and write the report; return the results, in the first process alone."""
  fingerprints = {'teacher': ensemble.fingerprint, 'data': plan.dataset.fingerprint}
  made_by = identity.made_by(plan.config, **fingerprints)
  coverage = export.save_all(plan, student, made_by, compared.rows)
  probes = report.collect(plan, ensemble, student, compared.networks)
  about = {'made_by': made_by, 'coverage': coverage}

  def write() -> dict:
    return report.write(plan, compared, probes, timings=timings, writer=writer, **about)

  return processes.by_first(write)


@contextlib.contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
  """Measure a stage in seconds; after it the processes stop together if one was asked to."""
  began = time.monotonic()
  yield
  timings[stage] = time.monotonic() - began
  stopping.check_together()


@contextlib.contextmanager
def _usage_errors(kind: type[ValueError] = ValueError) -> Iterator[None]:
  """Turn errors of this kind into UsageError, and end the watchdog."""
  try:
    yield
  except kind as error:
    watching.rest()
    raise UsageError(str(error)) from error


def _check_paths(config, workdir: str | None) -> None:
  """Refuse paths that no system accepts."""
  places = {'--workdir': workdir, 'workdir': config.workdir, 'cache': config.cache}
  places |= {'data.dir': config.data.dir, 'teacher.dir': config.teacher.dir}
  for name, path in places.items():
    paths.check(name, path)


def _start_watchdog(config) -> None:
  """Watch for progress if a setting says so, or if several processes share the run."""
  minutes = config.watchdog_minutes
  if minutes is None:
    minutes = 30.0 if processes.shared() else 0.0
  if minutes:
    watching.watchdog(minutes)


def _watched(plan: Plan) -> Plan:
  """Return the plan with data whose changes under the run are noticed."""
  folder = plan.folder / 'checkpoints'
  dataset = processes.in_turn(lambda: inputs.watched(plan.dataset, folder))
  training = dataset if plan.training is plan.dataset else plan.training
  return dataclasses.replace(plan, dataset=dataset, training=training)


def _writer(plan: Plan) -> writers.Silent:
  """Return the writer of a run; only the first of its processes writes."""
  if not processes.first():
    return writers.Silent()
  config = plan.config
  about = {'name': config.name, 'settings': identity.to_json(config)}
  return writers.Writer(plan.folder, trackers=sinks.chosen(config.sinks), **about)
