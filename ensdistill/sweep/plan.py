"""A sweep: its jobs, their checks before anything trains, its state, and its runs."""

import contextlib
import json
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence

from ensdistill import given, names, run
from ensdistill.config import build, identity, inputs
from ensdistill.data import DataError
from ensdistill.sweep import estimate, records, slots, tables
from ensdistill.sweep.estimate import STEPS, Cost, Stage
from ensdistill.sweep.jobs import Job, Kind, shown
from ensdistill.sweep.queue import DONE, FAILED, LEFT, RUNNING, Queue
from ensdistill.sweep.work import Outcome, Worker
from ensdistill.training import validations

COSTS = 'smoke/costs.json'


class Sweep:
  """Jobs, and the folder of their state.

  flags: `--config.` flags that all jobs have, beside the settings of their kind.
  """

  def __init__(self, folder: pathlib.Path, jobs: Sequence[Job], flags: Sequence[str] = ()):
    self.folder, self.jobs, self.flags = folder, list(jobs), list(flags)
    self.queue = Queue(folder, jobs)

  @property
  def kinds(self) -> list[Kind]:
    """The kinds of its jobs."""
    return list({job.kind: None for job in self.jobs})

  def check(self) -> None:
    """Raise ValueError if a kind of job cannot run, or a finished one was made with other data."""
    load, left = _Loading(), [job for job in self.jobs if not self.queue.is_done(job)]
    for kind in {job.kind: None for job in left}:
      self._plan(kind, load)
    first = {job.kind: job for job in reversed(self.jobs) if self.queue.is_done(job)}
    for job in first.values():
      with contextlib.suppress(DataError, OSError):  # finished jobs do not need their data
        _, training = load(job.config, inputs.augmentation(job.config).crop_area)
        records.check_data(self.queue.result(job), job, training.fingerprint)

  def _plan(self, kind: Kind, load: Callable = inputs.load_data):
    config = kind.config.copy_and_resolve_references()
    try:
      return run.checked(config, self.folder / 'runs' / kind.name, load)
    except (DataError, OSError, ValueError) as error:
      raise ValueError(f'{kind.label} on {kind.data}: {error}') from error

  def listing(self) -> list[str]:
    """Return a line for each job, with its state, and its command."""
    states = self.queue.states()
    lines = []
    for job, state in states.items():
      command = ' '.join(['ensdistill train', *map(shlex.quote, self.command(job, train=True))])
      lines.append(f'{state:8}{command}')
    return [*lines, f'{len(lines)} jobs']

  def command(self, job: Job, train: bool = False) -> list[str]:
    """Return the arguments of a run; `train`: of `ensdistill train`."""
    kind = job.kind
    numbers = kind.settings | job.numbers
    folders = [f'--workdir={self.queue.run_folder(job)}']
    if not kind.config.teacher.dir:
      folders.append(f'--config.teacher.dir={self.queue.teachers}')
    settings = [f'--config.{path}={shown(value)}' for path, value in numbers.items()]
    recipe = kind.recipe if train else f'--config={kind.recipe}'
    return [recipe, *folders, *self.flags, *settings]

  def run(self, parallel: int | None = None, seconds: float | None = None) -> Outcome:
    """Run what is left."""
    self.folder.mkdir(parents=True, exist_ok=True)
    return self._work(self.queue, self.command, parallel, seconds)

  def _work(self, queue: Queue, command: Callable, parallel, seconds) -> Outcome:
    done = {job for job in queue.jobs if queue.is_done(job)}

    def describe(job: Job, record: dict) -> str:
      count = sum(queue.is_done(j) for j in queue.jobs)
      left = self._left() if queue is self.queue else None
      about = f', {left} left' if left else ''
      took = f'{record["seconds"]:.0f} s'
      return f'[{count}/{len(queue.jobs)}{about}] {job.title}: {tables.line(record)}, {took}'

    print(f'{len(queue.jobs)} jobs, {len(done)} done; into {queue.folder}', flush=True)
    worker = Worker(
      queue,
      slots.make(parallel),
      command=lambda job: [sys.executable, '-m', 'ensdistill.main', *command(job)],
      record=lambda job, seconds: records.make(job, queue.run_folder(job), seconds),
      describe=describe,
      say=_say,
    )
    return worker.work(seconds)

  def _costs(self) -> dict[str, Cost]:
    """Return {kind: cost}: from finished runs, else from smoke runs."""
    found = []
    for job in self.jobs:
      if self.queue.is_done(job):
        record = records.read(self.queue.result(job))
        found.append(record | {'kind': job.kind.name})
    return estimate.read(self.folder / COSTS) | estimate.of_records(found)

  def _left(self) -> str:
    """Return the estimated time of what is left, one job after the other; '' if unknown."""
    states = self.queue.states()
    left = [job for job, state in states.items() if state in (LEFT, RUNNING)]
    trained = {(j.kind.ensemble, j.teacher) for j, state in states.items() if state == DONE}
    seconds = estimate.seconds(left, trained, self._costs())
    return '' if seconds is None else duration(seconds)

  def status(self, every: bool = True) -> list[str]:
    """Return how many jobs are done, running, failed and left, and the estimated time."""
    states = self.queue.states()
    counts = {state: sum(s == state for s in states.values()) for state in _STATES}
    text = ', '.join(f'{count} {state}' for state, count in counts.items() if count)
    left = self._left()
    about = f'; about {left} left, one job after the other' if counts[LEFT] and left else ''
    lines = [f'{self.folder}: {len(states)} jobs: {text}{about}']
    if every:
      lines += [f'  {line}' for line in self._by_kind(states)]
    for job, state in states.items():
      if state == FAILED:
        lines.append(f'  failed: {job.title}: {self.queue.failure(job)}')
    if counts[FAILED]:
      lines.append('  --retry runs failed jobs again')
    return lines

  def _by_kind(self, states: dict[Job, str]) -> list[str]:
    costs, lines = self._costs(), []
    for kind in self.kinds:
      own = [state for job, state in states.items() if job.kind is kind]
      counts = ', '.join(f'{own.count(s)} {s}' for s in _STATES if own.count(s))
      cost = f'; {duration(costs[kind.name].own)} each' if kind.name in costs else ''
      lines.append(f'{kind.label} on {kind.data}: {counts}{cost}')
    return lines

  def exit_code(self, smoke: bool, unfinished: int) -> int:
    """Return 1 if jobs have failed, `unfinished` if some are left, else 0."""
    jobs = self._smoke().queue if smoke else self.queue
    states = set(jobs.states().values())
    if FAILED in states:
      return 1
    return unfinished if states & {LEFT, RUNNING} else 0

  def _smoke(self) -> 'Sweep':
    """Return the sweep of smoke runs: the first job of each kind, in a folder of its own."""
    first: dict[Kind, Job] = {}
    for job in self.jobs:
      first.setdefault(job.kind, job)
    return Sweep(self.folder / 'smoke', list(first.values()), self.flags)

  def smoke(self, parallel: int | None = None, seconds: float | None = None) -> Outcome:
    """Run a few steps of each kind, and store what whole runs will cost."""
    short, load = self._smoke(), _Loading()
    plans = {kind: self._plan(kind, load) for kind in short.kinds}
    for job in short.jobs:
      short.queue.renew(job)

    def command(job: Job) -> list[str]:
      return short.command(job) + _few_steps(_stages(plans[job.kind]))

    outcome = short._work(short.queue, command, parallel, seconds)
    costs = estimate.read(self.folder / COSTS)
    for job in short.jobs:
      if short.queue.is_done(job):
        record = records.read(short.queue.result(job))
        full = _stages(plans[job.kind])
        short_stages = [Stage(s.name, min(s.steps, STEPS), min(s.validations, 2)) for s in full]
        total = min(sum(stage.steps for stage in full[1:]), STEPS)
        lengths = build.phase_steps(plans[job.kind].config.student, total)
        phases = zip(short_stages[1:], lengths, strict=True)
        short_stages[1:] = [stage._replace(steps=length) for stage, length in phases]
        folder = short.queue.run_folder(job)
        cost = estimate.of_smoke(folder, record['seconds'], record['timings'], full, short_stages)
        costs[job.kind.name] = cost
    estimate.write(self.folder / COSTS, costs)
    return outcome


def _few_steps(stages: Sequence[Stage]) -> list[str]:
  """Return the flags that shorten a run's stages; evaluation and report stay as they are."""
  flags = ['--config.logs=4', '--config.scores=2', '--config.validate=']
  student = sum(stage.steps for stage in stages[1:])
  for name, steps in (('teacher', stages[0].steps), ('student', student)):
    if not steps:  # an ensemble that is given is not trained
      continue
    flags += [f'--config.{name}.steps={min(steps, STEPS)}', f'--config.{name}.epochs=0']
  return flags


def _stages(plan) -> list[Stage]:
  """Return the teacher's stage and the student's phases, with their lengths in the full run."""
  config = plan.config

  def stage(name: str, method) -> Stage:
    if config.validate and method.steps:
      count = len(validations.at_steps(config.validate, method.steps, method.epoch))
    else:
      count = min(config.scores, method.steps)
    return Stage(name, method.steps, 0 if plan.dataset.valid_is_empty else count)

  phases = [stage(phase.name, phase.method) for phase in plan.phases]
  return [stage('teacher', plan.teacher), *phases]


class _Loading:
  """Loads data sets, and keeps the last one: most kinds of a sweep have the same."""

  def __init__(self):
    self.key, self.found = None, None

  def __call__(self, config, crop_area: float):
    settings = names.flatten(identity.to_json(config))
    data = {k: v for k, v in settings.items() if k.startswith('data.')}
    key = json.dumps([data, config.seed, crop_area], sort_keys=True)
    if key != self.key:
      self.found, self.key = inputs.load_data(config, crop_area), key
    return self.found


def identify(kinds: Sequence[Kind]) -> None:
  """Write the digests of ensembles that were trained elsewhere into the kinds' configurations.

  Raise ValueError if one cannot be read.
  """
  load = _Loading()
  for kind in kinds:
    config = kind.config
    if config.teacher.outputs or config.teacher.source:
      try:
        dataset, _ = load(config, inputs.augmentation(config).crop_area)
        ensemble = given.load(config, dataset)
      except (DataError, OSError, ValueError) as error:
        raise ValueError(f'{kind.label} on {kind.data}: {error}') from error
      assert ensemble
      config.teacher.content = ensemble.content


_STATES = (DONE, RUNNING, FAILED, LEFT)


def _say(text: str) -> None:
  print(text, flush=True)


def duration(seconds: float) -> str:
  """Return a time in words: '41 s', '12 min', '3.5 h'."""
  if seconds < 90:
    return f'{seconds:.0f} s'
  return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'
