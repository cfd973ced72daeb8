"""Regression on UCI sets: the ensemble, one member and four students over the standard splits.

  python -m experiments.hydra.uci --data=FOLDER [--out=experiments/hydra] [SET ...]

FOLDER holds SET.npz with x, y and test_mask (see ensdistill/data/sources/npz.py). All splits of a
set are trained in one program: 20 below 2,000 rows, the first 5 above. The published protocol is
trained as a control: 50 homoscedastic teachers by least squares, ten splits, students of one hidden
layer of 50. A set with fewer splits has all of them. Each set and protocol is a job of a sweep's
queue: the same command continues, and `python -m experiments.collect` writes the table of README.md
from results/*.json.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
import time

import jax
import numpy as np

from ensdistill import names, runtime
from ensdistill.commands.usage import stoppable
from ensdistill.config import build, identity, recipes
from ensdistill.data.sources import npz
from ensdistill.evaluation import rows
from ensdistill.logs import writers
from ensdistill.report import results
from ensdistill.storage import safe
from ensdistill.sweep import records, slots, statistics
from ensdistill.sweep.jobs import Job, Kind
from ensdistill.sweep.queue import Queue
from ensdistill.sweep.statistics import Estimate
from ensdistill.sweep.work import Worker
from experiments.hydra import splits

SETS = (
  'boston', 'concrete', 'energy', 'wine_red', 'yacht', 'power', 'kin8nm', 'naval', 'protein'
)  # fmt: skip
MODELS = {
  'ensemble': 'ensemble',
  'member': 'one member',
  'kd': 'single, distilled',
  'hydra': 'Hydra',
  'be_kd': 'BatchEnsemble',
  'nw': 'Normal-Wishart',
}
# A protocol is a variant of the recipes; its students.
PROTOCOLS = {'': ('kd', 'hydra', 'be_kd', 'nw'), 'paper': ('hydra', 'be_kd')}
# RMSE, NLL of the published protocol, as printed by its authors' successors (Hydra: see README.md).
PUBLISHED = {
  'boston': {'ensemble': (2.579, 2.385), 'hydra': (2.835, 2.484), 'be_kd': (2.838, 2.489)},
  'concrete': {'ensemble': (5.619, 3.113), 'hydra': (6.056, 3.259), 'be_kd': (5.978, 3.224)},
  'energy': {'ensemble': (0.569, 0.853), 'hydra': (0.655, 0.991), 'be_kd': (0.666, 0.988)},
  'wine_red': {'ensemble': (0.550, 0.798), 'hydra': (0.569, 0.832), 'be_kd': (0.556, 0.807)},
  'power': {'ensemble': (4.220, 2.859), 'hydra': (4.228, 2.860), 'be_kd': (4.237, 2.863)},
  'kin8nm': {'ensemble': (0.0794, -1.111), 'hydra': (0.0932, -0.943), 'be_kd': (0.0962, -0.912)},
}


def configuration(method: str, name: str, variant: str, data: str):
  """Return the configuration of the recipe METHOD_uci:VARIANT on this set."""
  config = recipes.make(method, 'uci', variant)
  config.data.name, config.data.dir = name, data
  return config


def load(config, variant: str) -> list:
  """Return the splits of a protocol."""
  first = splits.load(config, [0])
  examples = sum(len(getattr(first[0], part).x) for part in ('train', 'valid', 'test'))
  count = 10 if variant == 'paper' else 20 if examples < 2000 else 5
  file = npz.find_file(f'{config.data.name}.npz', config.data.dir)
  count = min(count, len(npz.read_array(file, 'test_mask')))  # protein has five
  return first + splits.load(config, range(1, count))


def run(name: str, variant: str, data: str, folder: pathlib.Path) -> dict:
  """Return {'rows': {model: row}, 'nll': {model: of every split}, 'seconds': {model: seconds}}."""
  methods = PROTOCOLS[variant]
  configs = {method: configuration(method, name, variant, data) for method in methods}
  config = configs[methods[0]]
  stored = load(config, variant)
  done, path = opened(folder, configs, stored), folder / 'rows.json'
  if done['rows'].keys() >= {'ensemble', 'member', *methods}:
    return done
  not_run: dict[str, str] = {}
  datasets = [splits.standardised(dataset) for dataset in stored]
  inputs = splits.evaluated(config, stored, not_run)
  for what, why in not_run.items():
    print(f'  {what}: {why}')

  def finish(began, **scores):
    for model, found in scores.items():
      role, size = of_model(model, config)
      title = model if role == rows.STUDENT else rows.name(role, size)
      row = rows.of_repeats(title, found, {}, role=role, size=size)
      done['rows'][model] = results.strict(row)
      done['nll'][model] = [one['nll'] for one in found]
      done['seconds'][model] = (time.monotonic() - began) / len(scores)
    safe.write_atomic(path, json.dumps(done, indent=2) + '\n')
    for model in scores:
      row, seconds = done['rows'][model], done['seconds'][model]
      line = f'{cell(row, "rmse")} RMSE, {cell(row, "nll")} NLL'
      print(f'  {MODELS[model]:18} {line}   {seconds:.0f} s', flush=True)

  began, quiet = time.monotonic(), not sys.stderr.isatty()
  with writers.Writer(folder / 'teacher', quiet=quiet) as writer:
    teacher = splits.teachers(splits.plan(config, datasets, folder / 'teacher'), datasets, writer)
  ensembles = splits.predict(config, datasets, inputs, teacher)
  if 'ensemble' not in done['rows']:
    alone, together = splits.member_scores(datasets, ensembles), splits.scores(datasets, ensembles)
    finish(began, member=alone, ensemble=together)
  for method in methods:
    if method in done['rows']:
      continue
    began, config = time.monotonic(), configs[method]
    plan = splits.plan(config, datasets, folder / method)
    with writers.Writer(folder / method, quiet=quiet) as writer:
      student = splits.students(plan, datasets, teacher, writer)
    seen = splits.predict(config, datasets, inputs, student)
    finish(began, **{method: splits.scores(datasets, seen, ensembles)})
  for checkpoints in folder.glob('*/checkpoints'):
    shutil.rmtree(checkpoints)
  return done


def of_model(model: str, config) -> tuple[str, int]:
  """Return role and size of a model's row."""
  if model == 'member':
    return rows.MEMBER, 1
  if model == 'ensemble':
    return rows.ENSEMBLE, config.teacher.members
  return rows.STUDENT, build.student_size(config)


def opened(folder: pathlib.Path, configs: dict, datasets) -> dict:
  """Return the finished results of a folder; exit if its data or settings differ.

  Students whose settings have changed are computed again.
  """
  data = [dataset.fingerprint for dataset in datasets]
  decisive = {method: identity.decisive(config) for method, config in configs.items()}
  settings = {method: identity.fingerprint([found, data]) for method, found in decisive.items()}
  of_students = ('name', 'student.', 'objective.', 'perturb.')
  of_teacher = next(iter(decisive.values())).items()
  of_teacher = {k: v for k, v in of_teacher if not k.startswith(of_students)}
  settings['ensemble'] = identity.fingerprint([of_teacher, data])
  path = folder / 'rows.json'
  done = {'settings': settings, 'rows': {}, 'nll': {}, 'seconds': {}}
  if path.exists():
    done = json.loads(path.read_text())
  if done['settings']['ensemble'] != settings['ensemble']:
    sys.exit(
      f'{path} was made with other settings or data: choose another --runs, or remove {folder}'
    )
  for method in configs:
    if done['settings'].get(method) != settings[method]:
      if done['rows'].pop(method, None):
        print(f'  {MODELS[method]}: its settings have changed, computing it again')
      shutil.rmtree(folder / method, ignore_errors=True)
  done['settings'] |= settings
  folder.mkdir(parents=True, exist_ok=True)
  safe.write_atomic(path, json.dumps(done, indent=2) + '\n')
  return done


def cell(row, metric: str) -> str:
  """Return a metric of a row as text, with its standard error."""
  value, error = row['metrics'][metric], row['se'][metric]
  if value is None:
    return '–'
  return f'{value:.3g} ± {error:.1g}' if metric == 'rmse' else f'{value:.3f} ± {error:.3f}'


def share(row, metric: str, factor: float, digits: int) -> str:
  """Return a metric of a row times a factor, as text."""
  value = row['metrics'].get(metric)
  return '–' if value is None else f'{factor * value:.{digits}f}'


HEAD = (
  'model', 'RMSE', 'NLL', 'AUROC outside, %', 'in nats, %', 'rank of knowledge',
  'published (50 homoscedastic teachers, ten splits, student 1×50): RMSE', 'NLL',
  'control, that protocol here (ten splits): RMSE', 'NLL',
)  # fmt: skip


def table(found: dict) -> str:
  """Return the Markdown table of {set: {variant: done}}."""
  lines = ['| ' + ' | '.join(HEAD) + ' |', '|---|' + '---:|' * (len(HEAD) - 1)]
  for name, protocols in found.items():
    ours, control = protocols['']['rows'], protocols.get('paper', {}).get('rows', {})
    count = ours['ensemble']['seeds']
    mark = ' †' if any(map(changed, protocols.values())) else ''
    lines.append(f'| **{name}**, {count} splits{mark} |' + ' |' * (len(HEAD) - 1))
    for model, title in MODELS.items():
      row, published = ours[model], PUBLISHED.get(name, {}).get(model)
      cells = [title, cell(row, 'rmse'), cell(row, 'nll')]
      cells.append(share(row, 'ood/outside/auroc_knowledge', 100, 1))
      cells.append(share(row, 'ood/outside/auroc_entropy_knowledge', 100, 1))
      cells.append(share(row, 'ood/outside/agreement_knowledge', 1, 2))
      cells += [f'{v:g}' for v in published] if published else ['–', '–']
      again = control.get(model)
      cells += [cell(again, 'rmse'), cell(again, 'nll')] if again else ['–', '–']
      lines.append('| ' + ' | '.join(cells) + ' |')
  seconds = sum(sum(done['seconds'].values()) for sets in found.values() for done in sets.values())
  machines = {done.get('processor') for sets in found.values() for done in sets.values()}
  left = [name for name in SETS if name not in found]
  without = [name for name, protocols in found.items() if 'paper' not in protocols]
  missing = [f'Not run: {", ".join(left)}.', ''] if left else []
  missing += [f'The control was not run on: {", ".join(without)}.', ''] if without else []
  missing += _marks(found)
  took = f'Total time: {seconds / 60:.0f} minutes on {", ".join(sorted(filter(None, machines)))}.'
  return '\n'.join([*lines, '', *verdict(found), '', *missing, took]) + '\n'


def changed(done: dict) -> dict[str, tuple]:
  """Return {setting: (its value in a record, in the recipe of today)} where they differ."""
  recipe = identity.decisive(configuration('hydra', done['data'], done['variant'], ''))
  mine = {name: value for name, value in done['config'].items() if not name.startswith('data.')}
  now = json.loads(json.dumps(recipe))  # lists in place of tuples
  return {name: (mine[name], now.get(name)) for name in mine if mine[name] != now.get(name)}


def _marks(found: dict) -> list[str]:
  """Return the note on sets that were made before a setting of the recipe changed."""
  differences = [changed(done) for protocols in found.values() for done in protocols.values()]
  settings = {
    f'`{name}={old}` (now {new})' for own in differences for name, (old, new) in own.items()
  }
  return [f'† Made with {", ".join(sorted(settings))}, to be run again.', ''] if settings else []


def verdict(found: dict) -> list[str]:
  """Return whether Hydra's NLL lies between the ensemble's and one member's, with reasons."""
  between, others = [], []
  for name, protocols in found.items():
    by_model, nll = protocols['']['rows'], protocols['']['nll']
    mean = {model: float(np.mean(values)) for model, values in nll.items()}
    if mean['ensemble'] <= mean['hydra'] <= mean['member']:
      between.append(name)
      continue
    numbers = ', '.join(f'{MODELS[m]} {mean[m]:.3f}' for m in ('ensemble', 'hydra', 'member'))
    others.append(f'- {name} ({numbers}): {_why_not(by_model, nll)}.')
  text = (
    f"Hydra's NLL lies between the ensemble's and one member's on {len(between)} of {len(found)}"
  )
  return [f'{text}{": " + ", ".join(between) if between else ""}.', *others]


def paired(nll: dict[str, list[float]], model: str, other: str) -> Estimate:
  """Return how much larger a model's NLL is than another's, paired over the splits."""
  apart = np.subtract(nll[model], nll[other])
  error = statistics.standard_error(apart.tolist())
  return Estimate(float(apart.mean()), error, teachers=1, runs=len(apart))


def _why_not(by_model, nll) -> str:
  """Return the paired difference and the metrics that explain it."""
  worse = np.mean(nll['hydra']) > np.mean(nll['member'])
  other = 'member' if worse else 'ensemble'
  apart = paired(nll, 'hydra', other) if worse else paired(nll, other, 'hydra')
  side = f'{"worse" if worse else "better"} than {"one member" if worse else "the ensemble"}'
  text = f'Hydra is {side} by {apart.text("{:.3f}".format)}, paired over the splits'
  if not apart.told('higher'):
    return f'{text}, which is within noise'
  hydra, compared = (by_model[model]['metrics'] for model in ('hydra', other))
  return (
    f'{text}: its RMSE is {hydra["rmse"]:.3g} against {compared["rmse"]:.3g}, its 90 % intervals '
    f'hold {100 * hydra["coverage_90"]:.1f} % against {100 * compared["coverage_90"]:.1f} %, its '
    f'mean KL from the ensemble is {hydra["agreement_kl"]:.3f} nats'
  )


def job(name: str, variant: str, data: str) -> Job:
  """Return the job of a set and a protocol; all of its splits and students are one program."""
  config = configuration('hydra', name, variant, data)
  return Job(Kind('uci', name, variant, {}, config), 0, 0)


def record(queue: Queue, done: Job, seconds: float) -> dict:
  """Return the record of a finished job."""
  kind = done.kind
  found = json.loads((queue.run_folder(done) / 'rows.json').read_text())
  return {
    'format': records.FORMAT,
    'method': kind.method,
    'data': kind.data,
    'variant': kind.variant,
    'commit': runtime.commit(),
    'processor': runtime.processor(),
    'wall': round(seconds, 1),
    'settings': found['settings'],
    'seconds': found['seconds'],
    'nll': found['nll'],
    'config': done.decisive,
    'rows': list(found['rows'].values()),
    'models': list(found['rows']),
  }


def files(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, dict[str, str]]:
  """Return {README.md: {mark: the table}}, of the sets that have run in our protocol."""
  found: dict[str, dict] = {}
  for one in records.read_all(results):
    done = one | {'rows': dict(zip(one['models'], one['rows']))}
    found.setdefault(one['data'], {})[one['variant']] = done
  shown = {name: found[name] for name in SETS if '' in found.get(name, {})}
  return {results.parent / 'README.md': {'uci': table(shown)}} if shown else {}


def work(given) -> int:
  """Run the jobs that are left; return the exit code."""
  pairs = [(name, variant) for variant in PROTOCOLS for name in given.sets or SETS]
  queue = Queue(given.out, [job(*pair, given.data) for pair in pairs])
  queue.check()

  def command(one: Job) -> list[str]:
    kind = one.kind
    own = [kind.data, f'--protocol={kind.variant}', f'--folder={queue.run_folder(one)}']
    return [sys.executable, '-m', 'experiments.hydra.uci', f'--data={given.data}', *own]

  worker = Worker(
    queue,
    slots.make(1),
    command=command,
    record=lambda one, seconds: record(queue, one, seconds),
    describe=lambda one, found: f'{one.kind.recipe}: {found["wall"]:.0f} s',
    say=lambda text: print(text, flush=True),
  )
  outcome = worker.work(given.slice_seconds)
  states = queue.states()
  print('\n'.join(f'{state:8}{one.kind.recipe}' for one, state in states.items()))
  if outcome.signal:
    return 128 + outcome.signal
  return 0 if all(state == 'done' for state in states.values()) else 1


def main(argv=None):
  """Run the command with its arguments, those of the process by default."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('sets', nargs='*', metavar='SET', help=', '.join(SETS))
  parser.add_argument('--data', required=True, metavar='FOLDER')
  parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path(__file__).parent)
  parser.add_argument('--slice-seconds', type=float, metavar='N', help='stop after N seconds')
  parser.add_argument(
    '--protocol', choices=list(PROTOCOLS), help='of a single job, in this process'
  )
  parser.add_argument('--folder', type=pathlib.Path, help='folder of a single job')
  given = parser.parse_args(argv)
  try:
    for name in given.sets:
      names.check('set', name, SETS)
  except ValueError as error:
    parser.error(str(error))
  if given.protocol is None:
    sys.exit(work(given))
  if len(given.sets) != 1 or given.folder is None:
    parser.error('--protocol runs a single job: give one SET and --folder')
  runtime.prepare()
  run(given.sets[0], given.protocol, given.data, given.folder)


if __name__ == '__main__':
  # One device per core: 1.8 times as fast as one device with threads.
  jax.config.update('jax_num_cpu_devices', os.cpu_count())
  stoppable(main)()
