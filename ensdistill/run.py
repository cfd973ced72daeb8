"""The story of a run: configuration, data, teacher, student, evaluation, report."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable

from ensdistill import (
  compare,
  distillation,
  export,
  given,
  joining,
  paths,
  planning,
  processes,
  report,
  runtime,
  stopping,
  teacher,
  watching,
)
from ensdistill.config import estimate, identity, inputs, shared
from ensdistill.config import folder as claims
from ensdistill.config.build import Plan
from ensdistill.evaluation import sets
from ensdistill.logs import sinks, writers
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
  try:
    places = {'--workdir': workdir, 'workdir': config.workdir, 'cache': config.cache}
    places |= {'data.dir': config.data.dir, 'teacher.dir': config.teacher.dir}
    for name, path in places.items():
      paths.check(name, path)
  except ValueError as error:
    raise UsageError(str(error)) from error
  runtime.prepare(config.cache)
  try:
    stopping.check()
    joining.join(place)
    stopping.tell()
    overwrite = processes.agreed(lambda: overwrite, 'overwrite')
    _start_watchdog(config)
    folder = pathlib.Path(workdir or config.workdir or pathlib.Path('runs', config.name))
    folder = folder.expanduser()
    stopping.check_together()
    shared.check_settings(config)  # as they were given; `check` has those that follow, and the data
    plan = checked(config, folder, overwrite=overwrite)
    shared.check(plan)
    if overwrite or not (folder / 'results.json').exists():  # a finished run trains no more
      estimate.check(plan)
    processes.agreed(lambda: _make_folder(folder, overwrite), 'folder')
    with processes.locked(safe.alone(folder)):
      # The claim is last: a refused configuration leaves nothing behind.
      processes.agreed(lambda: _take(folder, config, overwrite), 'claim')
    shared.check_folders(plan)
    plan = _watched(plan)
  except ValueError as error:
    watching.rest()
    raise UsageError(str(error)) from error
  return plan


def _start_watchdog(config) -> None:
  """Watch for progress if a setting says so, or if several processes share the run."""
  minutes = config.watchdog_minutes
  if minutes is None:
    minutes = 30.0 if processes.shared() else 0.0
  if minutes:
    watching.watchdog(minutes)


def _make_folder(folder: pathlib.Path, overwrite: bool) -> None:
  safe.make_folder(folder)
  if overwrite:
    claims.check_overwrite(folder)


def _take(folder: pathlib.Path, config, overwrite: bool) -> None:
  if overwrite:
    claims.clear(folder)
  _claim(folder, config)


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
  say = _note if processes.first() else _silent
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
    results = _results(plan) or {}
  finally:
    watching.rest()
  if processes.first():
    print(report.table(results))
    print(f'page:   {plan.folder / "report.html"} (ensdistill report {plan.folder} --open)')
    print(f'curves: tensorboard --logdir {plan.folder / "tb"}')
  return results


def _results(plan: Plan) -> dict | None:
  with processes.locked(safe.alone(plan.folder)):
    results = processes.by_first(lambda: _begin(plan))
    if not processes.agreed(lambda: results is not None, 'finished'):
      with _writer(plan) as writer:
        results = _stages(plan, writer)
    checkpoint.remove(plan.folder / 'checkpoints')
  return results


def _begin(plan: Plan) -> dict | None:
  """Take the folder of a run; return the results if the run is finished."""
  _claim(plan.folder, plan.config)  # another process may have had the folder meanwhile
  safe.sweep_parts(plan.folder)
  (plan.folder / claims.BAD_STEP).unlink(missing_ok=True)  # written again if it still applies
  results = _finished(plan)
  if results:
    stages = ', '.join(results['timings'])
    print(f'{plan.folder}: already finished ({stages}); --overwrite runs it again', flush=True)
  return results


def _writer(plan: Plan) -> writers.Silent:
  """Return the writer of a run; only the first of its processes writes."""
  if not processes.first():
    return writers.Silent()
  config = plan.config
  about = {'name': config.name, 'settings': identity.to_json(config)}
  return writers.Writer(plan.folder, trackers=sinks.chosen(config.sinks), **about)


def _finished(plan: Plan) -> dict | None:
  """Return the results of a finished run, verified; None if something has to be made again.

  A damaged student whose weights are whole is written again from them.
  """
  try:
    results = report.load(plan.folder, identity.decisive(plan.config), note=_note)
    if results is None:
      return None
    if not isinstance(results.get('timings'), dict):
      raise seals.Damaged(plan.folder / 'results.json', 'is damaged (it has no timings)', '')
    try:
      export.check(plan, _note if seals.MADE_BY in results else _silent)
    except seals.StudentError as error:
      variables = export.stored(plan)
      if variables is None:
        raise
      _note(f'{error.path} {error.problem}: it is written again')
      found = distillation.Distilled(plan.student, variables)
      export.save_all(plan, found, results.get(seals.MADE_BY), results['rows'])
    page = plan.folder / 'report.html'
    if not page.exists():
      _note(f'{page} is missing: it is written again')
      report.write_pages(report.read_runs([plan.folder]), page)
  except seals.Damaged as error:
    _note(f'{error.path} {error.problem}: what is missing is made again')
    return None
  return results


def _note(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
  """Say nothing: it has been said, or another process says it."""


def _watched(plan: Plan) -> Plan:
  """Return the plan with data whose changes under the run are noticed."""
  folder = plan.folder / 'checkpoints'
  dataset = processes.in_turn(lambda: inputs.watched(plan.dataset, folder))
  training = dataset if plan.training is plan.dataset else plan.training
  return dataclasses.replace(plan, dataset=dataset, training=training)


def _stages(plan: Plan, writer) -> dict:
  writer.line('\n'.join(report.opening(plan)))
  stopping.check_together()
  skipped = plan.dataset.skipped
  if skipped:
    writer.line(f'{len(skipped)} image(s) skipped, the first: {skipped[0]}')
  timings, began = {}, time.monotonic()

  def timed(stage, result):
    nonlocal began
    timings[stage], began = time.monotonic() - began, time.monotonic()
    stopping.check_together()
    return result

  try:
    ensemble = timed('teacher', teacher.obtain(plan, writer))
    student = timed('student', _student(plan, ensemble, writer))
    compared = timed('evaluation', compare.compare(plan, ensemble, student, writer))
    fingerprints = {'teacher': ensemble.fingerprint, 'data': plan.dataset.fingerprint}
    made_by = identity.made_by(plan.config, **fingerprints)
    covered = export.save_all(plan, student, made_by, compared.rows)
    probes = report.collect(plan, ensemble, student, compared.networks)
    own = plan.folder, plan.config, plan.dataset

    def write() -> dict:
      return report.write(*own, compared, probes, timings, writer, made_by, covered)

    return processes.by_first(write)
  except stopping.Stopped as stop:
    finished = f'{" and ".join(list(timings)[:2])} finished' if timings else ''
    raise stopping.Stopped(stop.number, stop.saved or finished) from None


def _student(plan: Plan, ensemble, writer) -> distillation.Distilled:
  """Return the distilled student: as this run stored it, or trained."""
  if not processes.agreed(lambda: export.stored(plan) is not None, 'student'):
    return distillation.distil(plan, ensemble, writer)
  writer.line(f'student: found in {plan.folder}')
  variables = export.stored(plan)
  if variables is None:
    raise seals.Damaged(
      plan.folder / 'student',
      'is not what process 0 reads',
      'use a folder that is the same on all hosts',
    )
  return distillation.Distilled(plan.student, variables)


def _claim(folder: pathlib.Path, config) -> None:
  """Store the configuration in the run's folder; a folder of other settings is refused."""
  path, decisive = folder / 'config.json', identity.decisive(config)
  finished = (folder / 'results.json').exists()  # then the line is about the results
  if not path.exists() and _holds_other_results(folder, decisive):
    raise UsageError(
      f'{path} is missing, and {folder}/results.json is of other settings: choose another '
      '--workdir, or add --overwrite to start it afresh (teachers are kept)'
    )
  try:
    line = claims.claim(folder, config, note=None if finished else _note)
  except claims.OtherSettings as error:
    raise UsageError(str(error)) from error
  if line:
    print(line, flush=True)


def _holds_other_results(folder: pathlib.Path, decisive: dict) -> bool:
  try:
    return report.load(folder) is not None and report.load(folder, decisive) is None
  except seals.Damaged:
    return False
