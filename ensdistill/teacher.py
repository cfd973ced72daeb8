"""The deep ensemble: members are trained together, stored one by one, and found by later runs."""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, given, members, mesh
from ensdistill.config import build, identity
from ensdistill.config.build import Plan
from ensdistill.evaluation import inference, networks, rows
from ensdistill.method import Method
from ensdistill.storage import checkpoint, safe
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

  def frozen(self) -> Frozen:
    """Return the ensemble as a training step sees it."""

    def freeze(variables, state):
      del state
      return self.freeze(variables)

    return Frozen(self.variables, freeze)

  def outputs_on(self, dataset, section, writer) -> np.ndarray:
    """Return outputs [N, M, O] on the clean training inputs, computed once and stored.

    The file's name holds the data's fingerprint and M. The file beside it holds its checksum and
    those of the members: outputs of other members are noticed and computed again.
    """
    name = f'outputs_{dataset.fingerprint[:16]}_{self.size}'
    facts = {'members': self.digests, 'precision': section.precision}

    def say():
      writer.line(f'teacher {self.fingerprint}: waiting for another run that uses {self.folder}')

    with safe.lock(self.folder / 'lock', waiting=say):
      stored = _load(self.folder, name, writer, facts)
      if stored is not None:
        writer.line(f'teacher {self.fingerprint}: outputs on the training inputs found')
        return stored['outputs']
      predictor = inference.predictor(
        self.method, self.freeze, dataset, batch=section.batch_size, precision=section.precision
      )
      outputs = predictor.outputs(self.variables, dataset.train.x)
      _save(self.folder, name, {'outputs': outputs}, facts)
    return outputs

  @property
  def digests(self) -> list[str]:
    """The checksums of the stored members; of others, that of their source and variables."""
    if self.given:
      return [self.fingerprint]
    files = [self.folder / f'{_name(m)}.json' for m in range(self.size)]
    return [json.loads(file.read_text())['sha256'] for file in files]


def settings(config, dataset) -> dict:
  """Return what decides a member's numbers, and so its fingerprint: not M, devices or folders."""
  section = identity.to_json(config)
  elsewhere = ('dir', 'members', 'strategy', 'together')
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


def adopt(config, ensemble) -> None:
  """Write the size and digest of an ensemble that was trained elsewhere into the configuration."""
  section = config.teacher
  if section.members not in (0, ensemble.size):
    raise ValueError(
      f'teacher.members={section.members}, but {ensemble.where} has {ensemble.size}: set '
      'teacher.members=0'
    )
  section.members, section.content = ensemble.size, ensemble.content


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
  folder.mkdir(parents=True, exist_ok=True)
  wanted = range(config.teacher.members)

  def say():
    writer.line(f'teacher {fingerprint}: waiting for another run that trains it in {folder}')

  stored = _stored(folder, wanted, writer)
  if len(stored) < len(wanted):
    with safe.lock(folder / 'lock', waiting=say):
      text = json.dumps(decisive, indent=2, sort_keys=True)
      safe.write_atomic(folder / 'teacher.json', text)
      stored = _stored(folder, wanted, writer)  # another run may have stored some meanwhile
      missing = [m for m in wanted if m not in stored]
      _say_found(stored, wanted, folder, writer)
      for numbers in _groups(folder, missing, stored, config.teacher.together or len(wanted)):
        trained = _train(plan, numbers, missing, folder, writer)
        stored |= {m: member for m, member in trained.items() if m in missing}
  else:
    _say_found(stored, wanted, folder, writer)
    _groups(folder, [], stored, 1)  # removes checkpoints left by a kill after the last member
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[stored[m] for m in wanted])
  strategy = build.strategy(config.teacher, plan.teacher)
  return Teacher(plan.teacher, stacked, fingerprint, folder, strategy)


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
  return f'{text}; {measure} of each member: {"; ".join(parts)}' if parts else text


def _each(values) -> str:
  return ', '.join(f'{value:.3f}' for value in values)


def _range(values) -> str:
  return f'{min(values):.3f} to {max(values):.3f}'


def _functions(plan: Plan, writer) -> Teacher:
  """Return an ensemble of functions; a folder of its own keeps its outputs."""
  ensemble = plan.given
  fingerprint = ensemble.content[:16]
  folder = plan.teacher_root / fingerprint
  folder.mkdir(parents=True, exist_ok=True)
  facts = {'source': plan.config.teacher.source, 'content': ensemble.content}
  safe.write_atomic(folder / 'teacher.json', json.dumps(facts, indent=2, sort_keys=True))
  writer.line(f'teacher {fingerprint}: {ensemble.size} members from {ensemble.where}')
  strategy = plan.config.teacher.strategy
  parts = plan.teacher, ensemble.variables, fingerprint, folder, strategy
  return Teacher(*parts, given=ensemble.freeze)


def _stored(folder, wanted, writer) -> dict[int, Any]:
  """Return the members that are stored: {number: variables}."""
  found = {m: _load(folder, _name(m), writer) for m in wanted}
  return {m: member for m, member in found.items() if member is not None}


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
  for path in sorted((folder / 'checkpoints').glob('members_*')):
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
  loop = plan.loop(section, method, len(numbers), writer)
  writer.line(
    f'teacher {folder.name}: training {len(numbers)} members for {method.steps} steps; '
    f'{loop.strategy} over members, {mesh.note(loop.mesh, section.batch_size)}'
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
  variables = jax.device_get(variables)
  trained = {m: members.take(variables, i) for i, m in enumerate(numbers)}
  seconds = (time.monotonic() - began) / len(numbers)
  for i, m in enumerate(numbers):
    if m in missing:
      facts = {name: float(values[i]) for name, values in kept.items()}
      _save(folder, _name(m), trained[m], facts | {'seconds': seconds})
  checkpoint.remove(checkpoints)
  return trained


def _name(number: int) -> str:
  return f'member_{number:03d}'


def _save(folder, name, variables, facts) -> None:
  path = folder / f'{name}.safetensors'
  digest = safe.save_tensors(path, safe.flatten(variables))
  text = json.dumps({'sha256': digest, **facts}, indent=2)
  safe.write_atomic(path.with_suffix('.json'), text)


def _load(folder, name, writer, wanted=None):
  """Return a stored file's tensors; None if it is missing, or damaged (with a warning).

  `wanted` are facts that must match; otherwise the file is stale.
  """
  path = folder / f'{name}.safetensors'
  if not path.exists() or not path.with_suffix('.json').exists():
    return None
  try:
    facts = json.loads(path.with_suffix('.json').read_text())
    if any(facts.get(key) != value for key, value in (wanted or {}).items()):
      raise ValueError('stale: made from other members or settings')
    tensors = safe.load_tensors(path, expected_sha256=facts['sha256'])
    return {'batch_stats': {}, **safe.unflatten(tensors)}
  except (ValueError, KeyError) as error:
    writer.line(f'warning: {path} cannot be used ({error}); it is computed again')
    return None
