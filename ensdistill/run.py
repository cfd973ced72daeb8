"""The story of a run: config, data, teacher, student, evaluation, report."""

import json
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import jax

from ensdistill import compare, data, distillation, export, report, runtime
from ensdistill import teacher as teacher_lib
from ensdistill.config import build, checks, identity
from ensdistill.evaluation import sets
from ensdistill.logs import writers
from ensdistill.storage import safe


class UsageError(ValueError):
  """Something in the configuration that its user can put right."""


class Plan(NamedTuple):
  """A checked configuration, its data, and its folder."""

  config: Any
  dataset: data.Dataset
  training: data.Dataset  # what the student learns from: with auxiliary inputs, if there are any
  folder: pathlib.Path


def prepare(config, workdir: str | None = None) -> Plan:
  """Checks everything that can be checked before anything compiles."""
  runtime.prepare(config.cache)
  if jax.process_count() > 1:
    raise UsageError(
      f'{jax.process_count()} processes: a run is one process that drives all devices of its host'
    )
  try:
    checks.check(config)
    folder = pathlib.Path(workdir or config.workdir or pathlib.Path('runs', config.name))
    dataset, training = load_data(config)
    checks.settle_targets(config, training.streams)
    checks.check_fits(config, dataset.family)
    build.teacher_method(config, dataset)
    distillation.phases(config, training)
    build.check_augmentation(config, dataset)
    evaluated = {'ood': config.evaluate.ood, 'shifts': config.evaluate.shift}
    sets.check(dataset, dir=config.data.dir or None, **evaluated)
    with config.unlocked():
      config.data.content = training.fingerprint  # other data by the same name are other data
    safe.make_folder(folder)
    with _alone(folder):
      _claim(folder, config)  # last: what is refused above leaves nothing behind
  except ValueError as error:
    raise UsageError(str(error)) from error
  return Plan(config, dataset, training, folder)


def load_data(config) -> tuple[data.Dataset, data.Dataset]:
  """The data set, and the same with auxiliary inputs (EnD²+AUX) joined to its training split."""
  section = config.data
  options = {'dir': section.dir or None, 'seed': config.seed}
  where = {'stream': section.stream, 'stream_bytes': section.stream_bytes}
  where['crops'] = bool(build.crop_area(config))
  dataset = data.load(section.name, **build.data_settings(section), **where, **options)
  if not section.aux:
    return dataset, dataset
  options |= build.reading(section) | {'shape': dataset.shape, 'limit': section.limit}
  try:  # its training split, so that its test split still measures detection
    auxiliary = data.load_inputs(section.aux, part='train', **options)
  except (data.MissingData, data.stored.Unreadable):
    raise
  except data.DataError:
    auxiliary = data.load_inputs(section.aux, **options)
  return dataset, data.join(dataset, auxiliary)


def teacher_root(config, folder: pathlib.Path) -> pathlib.Path:
  """Where teachers lie: beside the run's folder, shared with other runs, unless told."""
  return pathlib.Path(config.teacher.dir or folder.parent / 'teachers')


def run(plan: Plan) -> dict:
  """Teacher, student, evaluation, report; every stage that is done is not done again."""
  with _alone(plan.folder):
    results = report.load(plan.folder, identity.decisive(plan.config))
    if results:
      stages = ', '.join(results['timings'])
      print(f'{plan.folder}: finished before, skipped {stages} (remove the folder to run it again)')
    else:
      with writers.Writer(plan.folder) as writer:
        results = _stages(plan, writer)
    shutil.rmtree(plan.folder / 'checkpoints', ignore_errors=True)
  print(report.table(results))
  print(f'report: {plan.folder / "report.html"}   tensorboard --logdir {plan.folder / "tb"}')
  return results


def _stages(plan: Plan, writer) -> dict:
  config, dataset, training, folder = plan
  writer.line(_opening(config, dataset, folder))
  if dataset.skipped:
    writer.line(f'{len(dataset.skipped)} image(s) skipped, the first: {dataset.skipped[0]}')
  began, timings = time.monotonic(), {}

  def timed(stage, result):
    nonlocal began
    timings[stage], began = time.monotonic() - began, time.monotonic()
    return result

  root = teacher_root(config, folder)
  teacher = timed('teacher', teacher_lib.obtain(config, dataset, root, writer))
  student = timed('student', distillation.distil(config, training, teacher, folder, writer))
  compared = timed('evaluation', compare.compare(config, dataset, teacher, student, writer))
  export.save_all(folder, config, dataset, student)
  probes = report.collect(config, dataset, teacher, student)
  return report.write(folder, config, dataset, compared, probes, timings, writer)


def _alone(folder: pathlib.Path):
  """Holds the run's folder for this process; says so where it has to wait."""
  say = lambda: print(f'{folder}: another process is running this; waiting for it')
  return safe.lock(folder / 'lock', waiting=say)


def _claim(folder: pathlib.Path, config) -> None:
  """Makes the run's folder its own: a folder of other settings is refused."""
  path, decisive = folder / 'config.json', identity.decisive(config)
  if path.exists():
    old = identity.flatten(json.loads(path.read_text()))
    changed = identity.differences(
      {k: v for k, v in old.items() if k in decisive or identity.decides(k, v)}, decisive
    )
    if changed:
      raise UsageError(
        f'{folder} holds a run with other settings ({"; ".join(changed)}): choose another '
        '--workdir, or remove the folder'
      )
  text = json.dumps(identity.to_json(config), indent=2, sort_keys=True)
  safe.write_atomic(path, text + '\n')


def _opening(config, dataset, folder) -> str:
  sizes = ' / '.join(str(len(split.y)) for split in (dataset.train, dataset.valid, dataset.test))
  devices = jax.devices()
  return (
    f'{config.name}: {dataset.name}, {sizes} train / validation / test examples; '
    f'{len(devices)} x {devices[0].device_kind}; into {folder}'
  ) + (f'; not used: {dataset.unused}' if dataset.unused else '')
