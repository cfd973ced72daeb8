"""The story of a run: configuration, data, teacher, student, evaluation, report."""

import dataclasses
import json
import pathlib
import shutil
import time
from collections.abc import Callable

import jax

from ensdistill import compare, distillation, export, given, plugins, report, runtime, teacher
from ensdistill.config import build, checks, estimate, identity, inputs
from ensdistill.config.build import Plan
from ensdistill.evaluation import sets
from ensdistill.logs import writers
from ensdistill.storage import safe


class UsageError(ValueError):
  """A mistake in the configuration, which the user can correct."""


def prepare(config, workdir: str | None = None) -> Plan:
  """Check everything that can be checked before anything compiles, and build every part."""
  runtime.prepare(config.cache)
  if jax.process_count() > 1:
    raise UsageError(
      f'{jax.process_count()} processes: a run is one process that drives all devices of its host'
    )
  try:
    folder = pathlib.Path(workdir or config.workdir or pathlib.Path('runs', config.name))
    plan = checked(config, folder)
    if not (folder / 'results.json').exists():  # a finished run trains no more
      estimate.check(plan)
    safe.make_folder(folder)
    with _alone(folder):
      _claim(folder, config)  # last: a refused configuration leaves nothing behind
    plan = _watched(plan)
  except ValueError as error:
    raise UsageError(str(error)) from error
  return plan


def checked(config, folder: pathlib.Path, load: Callable = inputs.load_data) -> Plan:
  """Return the plan of a configuration after all checks; raise ValueError. Nothing is written.

  load: (config, least share of an image that a crop shows) -> the data sets.
  """
  parts = build.parts(config)
  checks.check(config, parts)
  dataset, training = load(config, parts.augment.crop_area)
  ensemble = given.load(config, dataset)
  if ensemble:
    teacher.adopt(config, ensemble)
    if isinstance(ensemble, given.Functions) and parts.perturbation:
      given.check_gradients(ensemble, dataset, parts.perturbation)
  checks.settle_targets(config, parts, training.streams)
  checks.check_fits(config, parts, dataset.family)
  inputs.check_augmentation(parts.augment, dataset)
  plan = build.plan(config, parts, dataset, training, folder, ensemble)
  evaluated = {'ood': config.evaluate.ood, 'shifts': config.evaluate.shift}
  sets.check(dataset, dir=config.data.dir or None, **evaluated)
  with config.unlocked():
    config.data.content = training.fingerprint  # other data of the same name are other data
  return plan


def run(plan: Plan) -> dict:
  """Run teacher, student, evaluation and report, each once; return the results."""
  with _alone(plan.folder):
    results = report.load(plan.folder, identity.decisive(plan.config))
    if results:
      stages = ', '.join(results['timings'])
      print(f'{plan.folder}: already finished ({stages}); remove the folder to run it again')
    else:
      with writers.Writer(plan.folder) as writer:
        results = _stages(plan, writer)
    shutil.rmtree(plan.folder / 'checkpoints', ignore_errors=True)
  print(report.table(results))
  print(f'report: {plan.folder / "report.html"}   tensorboard --logdir {plan.folder / "tb"}')
  return results


def _watched(plan: Plan) -> Plan:
  """Return the plan with data whose changes under the run are noticed."""
  dataset = inputs.watched(plan.dataset, plan.folder / 'checkpoints')
  training = dataset if plan.training is plan.dataset else plan.training
  return dataclasses.replace(plan, dataset=dataset, training=training)


def _stages(plan: Plan, writer) -> dict:
  writer.line(_opening(plan))
  skipped = plan.dataset.skipped
  if skipped:
    writer.line(f'{len(skipped)} image(s) skipped, the first: {skipped[0]}')
  timings, began = {}, time.monotonic()

  def timed(stage, result):
    nonlocal began
    timings[stage], began = time.monotonic() - began, time.monotonic()
    return result

  ensemble = timed('teacher', teacher.obtain(plan, writer))
  student = timed('student', distillation.distil(plan, ensemble, writer))
  compared = timed('evaluation', compare.compare(plan, ensemble, student, writer))
  export.save_all(plan, student)
  probes = report.collect(plan, ensemble, student, compared.networks)
  return report.write(plan.folder, plan.config, plan.dataset, compared, probes, timings, writer)


def _alone(folder: pathlib.Path):
  """Hold the run's folder for this process, with a message where it has to wait."""

  def say():
    print(f'{folder}: waiting for another process that runs this')

  return safe.lock(folder / 'lock', waiting=say)


def _claim(folder: pathlib.Path, config) -> None:
  """Store the configuration in the run's folder; a folder of other settings is refused."""
  path, decisive = folder / 'config.json', identity.decisive(config)
  if path.exists():
    try:
      old = identity.flatten(json.loads(path.read_text()))
    except (ValueError, AttributeError) as error:
      raise UsageError(
        f'{path} is damaged ({error}): choose another --workdir, or remove the folder'
      ) from error
    known = {k: v for k, v in old.items() if k in decisive or identity.decides(k, v)}
    changed = identity.differences(known, decisive)
    if changed:
      raise UsageError(
        f'{folder} holds a run with other settings ({"; ".join(changed)}): choose another '
        '--workdir, or remove the folder'
      )
  text = json.dumps(identity.to_json(config), indent=2, sort_keys=True)
  safe.write_atomic(path, text + '\n')


def _opening(plan: Plan) -> str:
  """Return the first line of a run."""
  dataset, devices = plan.dataset, jax.devices()
  sizes = ' / '.join(str(len(split.y)) for split in (dataset.train, dataset.valid, dataset.test))
  unused = f'; not used: {dataset.unused}' if dataset.unused else ''
  return (
    f'{plan.config.name}: {dataset.name}, {sizes} train / validation / test examples; '
    f'{len(devices)} x {devices[0].device_kind}; into {plan.folder}{unused}'
  )
