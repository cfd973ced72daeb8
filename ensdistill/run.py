"""The story of a run: configuration, data, teacher, student, evaluation, report."""

import pathlib
import shutil
import time

import jax

from ensdistill import (
  compare,
  distillation,
  export,
  paths,
  report,
  runtime,
  stopping,
  teacher,
)
from ensdistill.config import build, checks, identity, inputs
from ensdistill.config import folder as claims
from ensdistill.config.build import Plan
from ensdistill.evaluation import sets
from ensdistill.logs import writers
from ensdistill.storage import safe


class UsageError(ValueError):
  """A mistake in the configuration, which the user can correct."""


def prepare(config, workdir: str | None = None, overwrite: bool = False) -> Plan:
  """Check everything that can be checked before anything compiles, and build every part.

  `overwrite` starts the run of the folder afresh.
  """
  try:
    places = {'--workdir': workdir, 'workdir': config.workdir, 'cache': config.cache}
    places |= {'data.dir': config.data.dir, 'teacher.dir': config.teacher.dir}
    for name, place in places.items():
      paths.check(name, place)
  except ValueError as error:
    raise UsageError(str(error)) from error
  runtime.prepare(config.cache)
  if jax.process_count() > 1:
    raise UsageError(
      f'{jax.process_count()} processes: a run is one process that drives all devices of its host'
    )
  try:
    parts = build.parts(config)
    checks.check(config, parts)
    place = workdir or config.workdir or pathlib.Path('runs', config.name)
    folder = pathlib.Path(place).expanduser()
    stopping.check()
    dataset, training = inputs.load_data(config, parts.augment.crop_area)
    checks.settle_targets(config, parts, training.streams)
    checks.check_fits(config, parts, dataset.family)
    inputs.check_augmentation(parts.augment, dataset)
    plan = build.plan(config, parts, dataset, training, folder)
    evaluated = {'ood': config.evaluate.ood, 'shifts': config.evaluate.shift}
    sets.check(dataset, dir=config.data.dir or None, **evaluated)
    with config.unlocked():
      config.data.content = training.fingerprint  # other data of the same name are other data
    safe.make_folder(folder)
    if overwrite:
      claims.check_overwrite(folder)
    with _alone(folder):
      if overwrite:
        claims.clear(folder)
      _claim(folder, config)  # last: a refused configuration leaves nothing behind
  except ValueError as error:
    raise UsageError(str(error)) from error
  return plan


def run(plan: Plan) -> dict:
  """Run teacher, student, evaluation and report, each once; return the results."""
  with _alone(plan.folder):
    _claim(plan.folder, plan.config)  # another process may have had the folder meanwhile
    safe.sweep_parts(plan.folder)
    (plan.folder / claims.BAD_STEP).unlink(missing_ok=True)  # written again if it still applies
    results = report.load(plan.folder, identity.decisive(plan.config))
    if results:
      stages = ', '.join(results['timings'])
      print(f'{plan.folder}: already finished ({stages}); --overwrite runs it again')
    else:
      with writers.Writer(plan.folder) as writer:
        results = _stages(plan, writer)
    shutil.rmtree(plan.folder / 'checkpoints', ignore_errors=True)
  print(report.table(results))
  print(f'report: {plan.folder / "report.html"}   tensorboard --logdir {plan.folder / "tb"}')
  return results


def _stages(plan: Plan, writer) -> dict:
  writer.line(_opening(plan))
  stopping.check()
  skipped = plan.dataset.skipped
  if skipped:
    writer.line(f'{len(skipped)} image(s) skipped, the first: {skipped[0]}')
  timings, began = {}, time.monotonic()

  def timed(stage, result):
    nonlocal began
    timings[stage], began = time.monotonic() - began, time.monotonic()
    stopping.check()
    return result

  try:
    ensemble = timed('teacher', teacher.obtain(plan, writer))
    student = timed('student', distillation.distil(plan, ensemble, writer))
    compared = timed('evaluation', compare.compare(plan, ensemble, student, writer))
    export.save_all(plan, student)
    probes = report.collect(plan, ensemble, student)
    return report.write(plan.folder, plan.config, plan.dataset, compared, probes, timings, writer)
  except stopping.Stopped as stop:
    finished = f'{" and ".join(list(timings)[:2])} finished' if timings else ''
    raise stopping.Stopped(stop.number, stop.saved or finished) from None


def _alone(folder: pathlib.Path):
  """Hold the run's folder for this process, with a message where it has to wait."""

  def say():
    who = safe.holder(folder / 'lock')
    print(f'{folder}: waiting for another process that runs this ({who})', flush=True)

  return safe.lock(folder / 'lock', waiting=say)


def _claim(folder: pathlib.Path, config) -> None:
  try:
    note = claims.claim(folder, config)
  except ValueError as error:
    raise UsageError(str(error)) from error
  if note:
    print(note, flush=True)


def _opening(plan: Plan) -> str:
  """Return the first line of a run."""
  dataset, devices = plan.dataset, jax.devices()
  sizes = ' / '.join(str(len(split.y)) for split in (dataset.train, dataset.valid, dataset.test))
  unused = f'; not used: {dataset.unused}' if dataset.unused else ''
  return (
    f'{plan.config.name}: {dataset.name}, {sizes} train / validation / test examples; '
    f'{len(devices)} x {devices[0].device_kind}; into {plan.folder}{unused}'
  )
