"""The deep ensemble: members are trained together, stored one by one, and found by later runs."""

import dataclasses
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, given, members, mesh, processes, runtime
from ensdistill.config import build, identity
from ensdistill.config.build import Plan
from ensdistill.evaluation import inference, networks, rows
from ensdistill.logs import writers
from ensdistill.method import Method
from ensdistill.storage import checkpoint, safe, sealed_arrays, seals
from ensdistill.training import stage
from ensdistill.training.stage import Frozen
from ensdistill.training.step import network_keys, start

FORMAT = 1  # of the stored files; part of the fingerprint


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

    def say():
      who = safe.holder(self.folder / 'lock')
      writer.line(f'teacher {self.fingerprint}: waiting for {who}, which uses {self.folder}')

    with processes.locked(safe.lock(self.folder / 'lock', waiting=say)):
      processes.by_first(lambda: safe.sweep_parts(self.folder))
      stored = (
        sealed_arrays.load(self.folder, name, writer.line, facts) if processes.first() else None
      )
      if processes.agreed(lambda: stored is not None, 'outputs'):
        writer.line(f'teacher {self.fingerprint}: outputs on the training inputs found')
        return (stored or _loaded(self.folder, name))['outputs']
      predictor = inference.predictor(
        self.method, self.freeze, dataset, batch=section.batch_size, precision=section.precision
      )
      outputs = predictor.outputs(self.variables, dataset.train.x)
      facts |= {seals.MADE_BY: made_by}
      _save_once(self.folder, name, {'outputs': outputs}, facts)
    return outputs

  @property
  def digests(self) -> list[str]:
    """The checksums of the stored members; of others, that of their source and variables."""
    if self.given:
      return [self.fingerprint]
    return [sealed_arrays.facts_of(self.folder, _name(m))['sha256'] for m in range(self.size)]


def settings(config, dataset) -> dict:
  """Return what decides a member's numbers, and so its fingerprint: not M, devices or folders."""
  section = identity.to_json(config)
  elsewhere = ('dir', 'members', 'strategy', 'together', 'sharded')
  recipe = {k: v for k, v in section['teacher'].items() if k not in elsewhere}
  chooses = recipe['keep'] == 'best'
  validate = section['validate'] if chooses else None
  return {
    'format': FORMAT,
    'data': dataset.fingerprint,
    'network': _set({k: v for k, v in section['network'].items() if k != 'remat'}),
    'augment': _augmentation(section['augment']),
    'recipe': _set(recipe),
    'scores': section['scores'] if chooses and not validate else None,
    'seed': section['seed'],
  } | ({'validate': validate} if validate else {})


def _augmentation(section: dict) -> dict:
  """Return the settings of the augmentation that are set, with the version of a rotation."""
  version = {'rotation': data.augment.ROTATION} if section['rotate'] else {}
  return _set(section) | version


def _set(section: dict) -> dict:
  """Return the settings that are set; so a new setting changes no fingerprint until it is set."""
  inner = {k: _set(v) if isinstance(v, dict) else v for k, v in section.items()}
  return {k: v for k, v in inner.items() if v is not None}


def obtain(plan: Plan, writer) -> 'Teacher | given.Recorded':
  """Return the ensemble: the given one, or stored members; missing ones are trained and stored.

  If several runs want the same teacher, one trains it and the others wait.
  """
  if isinstance(plan.given, given.Outputs):
    writer.line(_recorded(plan))
    return given.Recorded(plan.teacher, plan.given)
  if plan.given:
    return _functions(plan, writer)
  config = plan.config
  decisive = settings(config, plan.dataset)
  fingerprint = identity.fingerprint(decisive)
  folder = plan.teacher_root / fingerprint
  processes.by_first(lambda: folder.mkdir(parents=True, exist_ok=True))
  wanted = range(config.teacher.members)

  def say():
    who = safe.holder(folder / 'lock')
    writer.line(
      f'teacher {fingerprint}: waiting for another run that trains it in {folder} ({who})'
    )

  # Without the lock another run may be writing, so what is missing here is not yet reported.
  stored = _stored(folder, wanted, writers.Silent())
  complete = len(stored) == len(wanted) and _described(folder, decisive)
  if not processes.agreed(lambda: complete, 'teacher'):
    with processes.locked(safe.lock(folder / 'lock', waiting=say)):
      processes.by_first(lambda: safe.sweep_parts(folder))
      processes.by_first(lambda: _describe(plan, folder, decisive, writer))
      stored = _stored(folder, wanted, writer)  # another run may have stored some meanwhile
      missing = [m for m in wanted if m not in stored]
      _say_found(stored, wanted, folder, writer)
      if missing and _is_known(plan):
        lost = f'{len(missing)} member(s) that this run had are missing from {folder}'
        writer.line(f'teacher {fingerprint}: {lost}: they are trained again')
      for numbers in _groups(folder, missing, stored, config.teacher.together or len(wanted)):
        trained = _train(plan, numbers, missing, folder, writer)
        stored |= {m: member for m, member in trained.items() if m in missing}
  else:
    _say_found(stored, wanted, folder, writer)
    _groups(folder, [], stored, 1)  # removes checkpoints left by a kill after the last member
    checkpoint.remove_empty(folder / 'checkpoints')
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[stored[m] for m in wanted])
  strategy = build.strategy(config.teacher, plan.teacher)
  if any(not (folder / f'{_name(m)}.seal').exists() for m in wanted):
    writer.line(f'teacher {fingerprint}: {seals.unsealed(folder)}')
  return Teacher(plan.teacher, stacked, fingerprint, folder, strategy)


def _described(folder, decisive: dict) -> bool:
  """Return whether teacher.json is sealed and holds these settings."""
  path = folder / 'teacher.json'
  try:
    found = seals.read_json(path, remedy='it is written again')
  except seals.Damaged:
    return False
  return found is not None and decisive.items() <= found.items()


def _describe(plan: Plan, folder, decisive: dict, writer) -> None:
  """Write teacher.json unless it is there; it says what decides the members' numbers."""
  path = folder / 'teacher.json'
  if _described(folder, decisive):
    return
  if path.exists():
    writer.line(f'warning: {path} is damaged; it is written again')
  seals.write_json(path, {**decisive, seals.MADE_BY: _made_by(plan, folder)})


def _made_by(plan: Plan, folder) -> dict:
  return identity.made_by(plan.config, teacher=folder.name, data=plan.dataset.fingerprint)


def _is_known(plan: Plan) -> bool:
  """Return whether this run has had its teacher: its students have begun."""
  begun = any((plan.folder / 'checkpoints').glob('student*/*'))
  return begun or any((plan.folder / name).exists() for name in ('student', 'results.json'))


def _recorded(plan: Plan) -> str:
  """Return what a run says about stored outputs: which parts they cover, and their agreement."""
  ensemble = plan.given
  measure = 'accuracy' if plan.teacher.family.has_classes else 'correlation'
  parts = [
    f'{part} {_each(values) if len(values) <= 5 else _range(values)}'
    for part, values in ensemble.agreement.items()
  ]
  text = (
    f'teacher: outputs of {ensemble.size} members from {ensemble.where}, '
    f'student.targets={plan.config.student.targets}'
  )
  text = f'{text}; {measure} of each member: {"; ".join(parts)}' if parts else text
  lines = [text, *(f'teacher: {name} is not evaluated' for name in ensemble.unused)]
  return '\n'.join([*lines, *([f'teacher: {ensemble.doubt}'] if ensemble.doubt else [])])


def _each(values) -> str:
  return ', '.join(f'{value:.3f}' for value in values)


def _range(values) -> str:
  return f'{min(values):.3f} to {max(values):.3f}'


def _functions(plan: Plan, writer) -> Teacher:
  """Return an ensemble of functions; a folder of its own keeps its outputs."""
  ensemble = plan.given
  fingerprint = ensemble.content[:16]
  folder = plan.teacher_root / fingerprint
  facts = {'content': ensemble.content}  # the path of its source may differ
  processes.by_first(lambda: _describe(plan, folder, facts, writer))
  writer.line(f'teacher {fingerprint}: {ensemble.size} members from {ensemble.where}')
  strategy = plan.config.teacher.strategy
  parts = plan.teacher, ensemble.variables, fingerprint, folder, strategy
  return Teacher(*parts, given=ensemble.freeze)


def _stored(folder, wanted, writer) -> dict[int, Any]:
  """Return the members that are stored: {number: variables}; the first process says which."""
  found = {}
  if processes.first():
    found = {m: sealed_arrays.load(folder, _name(m), writer.line) for m in wanted}
  there = processes.agreed(lambda: [m for m in wanted if found[m] is not None], 'stored')
  return {m: found[m] if found else _loaded(folder, _name(m)) for m in there}


def _loaded(folder, name):
  """Return the tensors of a file that the first process has found whole."""
  tensors = sealed_arrays.load(folder, name, writers.Silent().line)
  if tensors is None:
    raise seals.differs(folder / f'{name}.safetensors', here=socket.gethostname())
  return tensors


def stored(folder: pathlib.Path) -> list[dict[str, np.ndarray]]:
  """Return the tensors of the members in a folder, from the first on; raise Damaged."""
  found: list[dict[str, np.ndarray]] = []
  while read := sealed_arrays.read(folder, _name(len(found))):
    found.append(safe.parse_tensors(read[1]))
  return found


def _say_found(stored, wanted, folder, writer) -> None:
  if stored:
    found = f'{len(stored)} of {len(wanted)} members found in {folder}'
    writer.line(f'teacher {folder.name}: {found}')


def _groups(folder, missing, stored, together: int) -> list[list[int]]:
  """Return the numbers of the missing members, one list per program that trains them together.

  First come the groups that a kill left, as they were begun. Even a run that was killed while it
  stored its members continues from its last checkpoint, so no number depends on the moment.
  """
  groups = []

  def left() -> list[str]:
    return sorted(path.name for path in (folder / 'checkpoints').glob('members_*'))

  for name in processes.agreed(left, 'groups'):
    path = folder / 'checkpoints' / name
    bits = int(path.name.removeprefix('members_'), 16)
    numbers = [m for m in range(bits.bit_length()) if bits >> m & 1]
    if stored.keys() >= set(numbers):
      checkpoint.remove(path)
    elif set(numbers) <= stored.keys() | set(missing):
      groups.append(numbers)
      missing = [m for m in missing if m not in numbers]
  return groups + [missing[at : at + together] for at in range(0, len(missing), together)]


def _train(plan: Plan, numbers, missing, folder, writer) -> dict[int, Any]:
  """Train these members in one program, store the missing ones; return {number: variables}."""
  config, method = plan.config, plan.teacher
  section = config.teacher
  made_by = _made_by(plan, folder)
  loop = dataclasses.replace(plan.loop(section, method, len(numbers), writer), made_by=made_by)
  writer.line(
    f'teacher {folder.name}: training {len(numbers)} members for {method.steps} steps; '
    f'{loop.strategy} over members, {loop.note(section.batch_size)}'
  )
  shared = section.order == 'shared'
  keys, orders = network_keys(jax.random.key(config.seed), numbers, shared)
  states = start(keys, orders, method, jnp.zeros((1, *plan.dataset.shape)))
  arrays = build.arrays(plan.dataset.train, plan.dataset)
  began = time.monotonic()
  checkpoints = (
    folder / 'checkpoints' / f'members_{sum(1 << m for m in numbers):x}'
  )  # bit m: member m
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
      _save_once(folder, _name(m), trained[m], facts)
  checkpoint.remove(checkpoints)
  checkpoint.remove_empty(checkpoints.parent)
  return trained


def _save_once(*file) -> None:
  """Store a file; of several processes that share the run, the first does."""
  processes.by_first(lambda: sealed_arrays.save(*file))


def _name(number: int) -> str:
  return f'member_{number:03d}'
