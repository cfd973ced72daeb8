"""The deep ensemble: members are trained together, stored one by one, and found by later runs."""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import given, members, mesh, processes, runtime
from ensdistill.config import build, identity, member_identity
from ensdistill.config.build import Plan
from ensdistill.evaluation import inference, networks, rows
from ensdistill.method import Method
from ensdistill.storage import checkpoint, safe, seals, teacher_files
from ensdistill.training import stage
from ensdistill.training.stage import Frozen
from ensdistill.training.step import network_keys, start


class Teacher(NamedTuple):
  """Stacked variables of M members, and how one of them is applied."""

  method: Method
  variables: Any  # leaves [M, ...]
  fingerprint: str
  folder: pathlib.Path
  strategy: str
  given: Callable | None = None  # variables -> Members, of members that were trained elsewhere

  @property
  def size(self) -> int:
    return self.freeze(self.variables).size

  def freeze(self, variables) -> members.Members:
    """Return stacked variables as frozen members."""
    if self.given:
      return self.given(variables)
    return members.frozen(self.method.student.module.apply, variables, self.strategy)

  def network(self, dataset, **settings) -> networks.Network:
    """Return what an evaluation sees; `settings` are those of a predictor."""
    predictor = inference.predictor(self.method, self.freeze, dataset, **settings)
    return networks.Network(rows.ENSEMBLE, self.size, predictor, self.variables)

  def frozen(self, over=None) -> Frozen:
    """Return the ensemble as a training step sees it.

    over: a mesh whose devices share the variables, where each of them having all needs too much
    memory. A step then puts one member after the other together.
    """
    if over is None or self.given:
      return Frozen(self.variables, lambda variables, state: self.freeze(variables))

    forward = self.method.student.module.apply

    def apply(variables, x):
      return forward(mesh.whole(over, variables), x)

    def freeze(variables, state):
      del state
      return members.frozen(apply, variables, 'loop')

    return Frozen(self.variables, freeze, mesh.by_parameter(over, self.variables))

  def outputs_on(self, dataset, section, writer) -> np.ndarray:
    """Return outputs [N, M, O] on the clean training inputs, computed once and stored.

    The file's name holds the data's fingerprint and M. The file beside it holds its checksum and
    those of the members: outputs of other members are noticed and computed again.
    """
    name = f'outputs_{dataset.fingerprint[:16]}_{self.size}'
    facts = {'members': self.digests, 'precision': section.precision}
    fingerprints = {'teacher': self.fingerprint, 'data': dataset.fingerprint}
    made_by = {'fingerprints': fingerprints, **runtime.software()}

    def compute() -> np.ndarray:
      predictor = inference.predictor(
        self.method, self.freeze, dataset, batch=section.batch_size, precision=section.precision
      )
      return predictor.outputs(self.variables, dataset.train.x)

    return teacher_files.outputs(self.folder, name, facts, made_by, compute, writer.line)

  @property
  def digests(self) -> list[str]:
    """The checksums of the stored members; of others, that of their source and variables."""
    return [self.fingerprint] if self.given else teacher_files.digests(self.folder, self.size)


def obtain(plan: Plan, writer) -> 'Teacher | given.Recorded':
  """Return the ensemble: the given one, or stored members; missing ones are trained and stored.

  If several runs want the same teacher, one trains it and the others wait.
  """
  if isinstance(plan.given, given.Outputs):
    writer.line(given.about_outputs(plan))
    return given.Recorded(plan.teacher, plan.given)
  if plan.given:
    return _functions(plan, writer)
  decisive = member_identity.settings(plan.config, plan.dataset)
  fingerprint = identity.fingerprint(decisive)
  folder = plan.teacher_root / fingerprint
  processes.by_first(lambda: folder.mkdir(parents=True, exist_ok=True))
  wanted = range(plan.config.teacher.members)
  # Without the lock another run may be writing, so what is missing here is not yet reported.
  stored = teacher_files.members(folder, wanted)
  complete = len(stored) == len(wanted) and teacher_files.is_described(folder, decisive)
  if processes.agreed(lambda: complete, 'teacher'):
    _say_found(stored, wanted, folder, writer)
    teacher_files.remove_finished(folder, stored)
    checkpoint.remove_empty(folder / 'checkpoints')
  else:
    stored = _completed(plan, decisive, wanted, folder, writer)
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[stored[m] for m in wanted])
  strategy = build.strategy(plan.config.teacher, plan.teacher)
  if not teacher_files.are_sealed(folder, wanted):
    writer.line(f'teacher {fingerprint}: {seals.unsealed(folder)}')
  return Teacher(plan.teacher, stacked, fingerprint, folder, strategy)


def _functions(plan: Plan, writer) -> Teacher:
  """Return an ensemble of functions; a folder of its own keeps its outputs."""
  ensemble = plan.given
  fingerprint = ensemble.content[:16]
  folder = plan.teacher_root / fingerprint
  facts = {'content': ensemble.content}  # the path of its source may differ
  _describe(plan, facts, folder, writer)
  writer.line(f'teacher {fingerprint}: {ensemble.size} members from {ensemble.where}')
  strategy = plan.config.teacher.strategy
  parts = plan.teacher, ensemble.variables, fingerprint, folder, strategy
  return Teacher(*parts, given=ensemble.freeze)


def _completed(plan: Plan, decisive: dict, wanted, folder, writer) -> dict[int, Any]:
  """Return all wanted members: {number: variables}; missing ones are trained and stored."""

  def waiting(holder: str) -> None:
    writer.line(
      f'teacher {folder.name}: waiting for another run that trains it in {folder} ({holder})'
    )

  with teacher_files.hold(folder, waiting):
    processes.by_first(lambda: safe.sweep_parts(folder))
    _describe(plan, decisive, folder, writer)
    stored = teacher_files.members(folder, wanted, writer.line)  # another run may have stored some
    missing = [m for m in wanted if m not in stored]
    _say_found(stored, wanted, folder, writer)
    if missing and _is_known(plan):
      lost = f'{len(missing)} member(s) that this run had are missing from {folder}'
      writer.line(f'teacher {folder.name}: {lost}: they are trained again')
    left = teacher_files.remove_finished(folder, stored)
    together = plan.config.teacher.together or len(wanted)
    for numbers in teacher_files.groups(left, stored, missing, together):
      trained = _train(plan, numbers, missing, folder, writer)
      stored |= {m: member for m, member in trained.items() if m in missing}
  return stored


def _describe(plan: Plan, decisive: dict, folder, writer) -> None:
  """Write teacher.json unless it is there; of several processes, the first does."""

  def describe() -> None:
    teacher_files.describe(folder, decisive, lambda: _made_by(plan, folder), writer.line)

  processes.by_first(describe)


def _made_by(plan: Plan, folder) -> dict:
  return identity.made_by(plan.config, teacher=folder.name, data=plan.dataset.fingerprint)


def _is_known(plan: Plan) -> bool:
  """Return whether this run has had its teacher: its students have begun."""
  begun = any((plan.folder / 'checkpoints').glob('student*/*'))
  return begun or any((plan.folder / name).exists() for name in ('student', 'results.json'))


def _say_found(stored, wanted, folder, writer) -> None:
  if stored:
    found = f'{len(stored)} of {len(wanted)} members found in {folder}'
    writer.line(f'teacher {folder.name}: {found}')


def _train(plan: Plan, numbers, missing, folder, writer) -> dict[int, Any]:
  """Train these members in one program, store the missing ones; return {number: variables}."""
  config, method = plan.config, plan.teacher
  section = config.teacher
  made_by = _made_by(plan, folder)
  loop = dataclasses.replace(plan.loop(section, method, len(numbers), writer), made_by=made_by)
  writer.line(
    f'teacher {folder.name}: training {len(numbers)} members for {method.steps} steps; '
    f'{loop.strategy} over members, {loop.note(section.batch_size, method.microbatches)}'
  )
  shared = section.order == 'shared'
  keys, orders = network_keys(jax.random.key(config.seed), numbers, shared)
  states = start(keys, orders, method, jnp.zeros((1, *plan.dataset.shape)))
  arrays = build.arrays(plan.dataset.train, plan.dataset)
  began = time.monotonic()
  checkpoints = teacher_files.checkpoints(folder, numbers)
  every = len(numbers) == section.members
  variables, kept = stage.train(
    name='teacher' if every else f'teacher-{numbers[0]}-{numbers[-1]}',
    method=method,
    states=states,
    feed=plan.feed(section, arrays, states.order, method.steps),
    validation=plan.validation(),
    loop=loop,
    folder=checkpoints,
  )
  variables = mesh.fetch(variables)
  trained = {m: members.take(variables, i) for i, m in enumerate(numbers)}
  seconds = (time.monotonic() - began) / len(numbers)
  for i, m in enumerate(numbers):
    if m in missing:
      facts: dict[str, Any] = {name: float(values[i]) for name, values in kept.items()}
      facts |= {'seconds': seconds, seals.MADE_BY: made_by}
      teacher_files.save_member(folder, m, trained[m], facts)
  checkpoint.remove(checkpoints)
  checkpoint.remove_empty(checkpoints.parent)
  return trained
