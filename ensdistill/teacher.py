"""The deep ensemble: its members trained together, stored one by one, found again by later runs."""

import json
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import members, mesh
from ensdistill.config import build, identity
from ensdistill.evaluation import inference
from ensdistill.storage import checkpoint, safe
from ensdistill.training import loop
from ensdistill.training import step as train

FORMAT = 1  # of the stored files; part of the fingerprint


class Teacher(NamedTuple):
  """Stacked variables of M trained members, and how one of them is applied."""

  method: train.Method
  variables: Any  # leaves [M, ...]
  fingerprint: str
  folder: pathlib.Path
  strategy: str

  @property
  def size(self) -> int:
    return jax.tree.leaves(self.variables)[0].shape[0]

  def freeze(self, variables) -> members.Members:
    return members.frozen(self.method.student.module.apply, variables, self.strategy)

  def outputs_on(self, dataset, section, writer) -> np.ndarray:
    """Outputs [N, M, O] on the clean training inputs, computed once and stored beside the members.

    The file's name holds the data's fingerprint and M; beside it lie its checksum and those of the
    members that it came from, so that outputs of other members are noticed and made again.
    """
    name = f'outputs_{dataset.fingerprint[:16]}_{self.size}'
    facts = {'members': self.digests, 'precision': section.precision}
    say = lambda: writer.line(f'teacher {self.fingerprint}: waiting for {self.folder}')
    with safe.lock(self.folder / 'lock', waiting=say):
      stored = _load(self.folder, name, writer, facts)
      if stored is not None:
        writer.line(f'teacher {self.fingerprint}: outputs on the training inputs found')
        return stored['outputs']
      outputs = inference.outputs(
        (self.freeze, self.variables),
        dataset.train.x,
        batch=section.batch_size,
        device_mesh=mesh.make(1, section.batch_size),
        precision=section.precision,
      )
      _save(self.folder, name, {'outputs': outputs}, facts)
    return outputs

  @property
  def digests(self) -> list[str]:
    """The checksums of the stored members."""
    files = [self.folder / f'{_name(m)}.json' for m in range(self.size)]
    return [json.loads(file.read_text())['sha256'] for file in files]


def settings(config, dataset) -> dict:
  """What decides a member's numbers, and therefore its fingerprint: not M, devices or folders."""
  section = identity.to_json(config)
  recipe = {
    k: v
    for k, v in section['teacher'].items()
    if k not in ('dir', 'members', 'strategy', 'together')
  }
  return {
    'format': FORMAT,
    'data': dataset.fingerprint,
    'network': _set(section['network']),
    'augment': _set(section['augment']),
    'recipe': _set(recipe),
    'scores': section['scores'] if recipe['keep'] == 'best' else None,
    'seed': section['seed'],
  }


def _set(section: dict) -> dict:
  """The settings that are set: a new one that is not changes no fingerprint."""
  inner = lambda value: _set(value) if isinstance(value, dict) else value
  return {k: inner(v) for k, v in section.items() if v is not None}


def obtain(config, dataset, root: pathlib.Path, writer) -> Teacher:
  """Finds the members that are stored, trains the ones that are missing, and stacks them all.

  Of several runs that want the same teacher one trains it and the others wait.
  """
  decisive = settings(config, dataset)
  fingerprint = identity.fingerprint(decisive)
  folder = root / fingerprint
  folder.mkdir(parents=True, exist_ok=True)
  method = build.teacher_method(config, dataset)
  wanted = range(config.teacher.members)
  say = lambda: writer.line(
    f'teacher {fingerprint}: another run is training it; waiting for {folder}'
  )
  find = lambda: {
    m: member for m in wanted if (member := _load(folder, _name(m), writer)) is not None
  }
  stored = find()
  if len(stored) < len(wanted):
    with safe.lock(folder / 'lock', waiting=say):
      text = json.dumps(decisive, indent=2, sort_keys=True)
      safe.write_atomic(folder / 'teacher.json', text)
      stored = find()  # what another run stored while this one waited
      missing = [m for m in wanted if m not in stored]
      _say_found(stored, wanted, folder, writer)
      for numbers in _groups(folder, missing, stored, config.teacher.together or len(wanted)):
        trained = _train(config, dataset, method, numbers, missing, folder, writer)
        stored |= {m: member for m, member in trained.items() if m in missing}
  else:
    _say_found(stored, wanted, folder, writer)
    _groups(folder, [], stored, 1)  # drops what a kill after the last member left
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[stored[m] for m in wanted])
  strategy = build.loop(config, config.teacher, method, len(wanted), writer, folder).strategy
  return Teacher(method, stacked, fingerprint, folder, strategy)


def parameter_overview(stacked) -> str:
  """The table of parameters of one of several stacked networks."""
  from clu import parameter_overview as clu_overview

  one = jax.tree.map(lambda leaf: np.asarray(leaf)[0], stacked)
  return clu_overview.get_parameter_overview(one)


def _say_found(stored, wanted, folder, writer) -> None:
  if stored:
    found = f'{len(stored)} of {len(wanted)} members found in {folder}'
    writer.line(f'teacher {folder.name}: {found}')


def _groups(folder, missing, stored, together: int) -> list[list[int]]:
  """Numbers of the missing members, a list for each program that trains some of them together.

  First come the groups that a kill left, as they were begun: even a run that was killed while it
  stored its members goes on from its last checkpoint, so that no number depends on the moment.
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


def _train(config, dataset, method, numbers, missing, folder, writer) -> dict[int, Any]:
  """Trains these members in one program, stores each that is missing; -> {number: variables}."""
  section = config.teacher
  running = build.loop(config, section, method, len(numbers), writer, folder)
  writer.line(
    f'teacher {folder.name}: training {len(numbers)} members for {method.steps} steps; '
    f'{running.strategy} over members, {mesh.note(running.mesh, section.batch_size)}'
  )
  keys = train.keys(jax.random.key(config.seed), numbers, section.order == 'shared')
  states = train.start(*keys, method, jnp.zeros((1, *dataset.shape)))
  writer.text('parameters of a member', parameter_overview(states.params), stage='teacher')
  augment = build.augmentation(config)
  arrays = build.arrays(dataset.train, dataset)
  feed = build.feed(config, section, dataset, arrays, states, method.steps)

  def step(state, arrays):
    batch = train.draw(arrays, state.order, state.step, batch=section.batch_size, augment=augment)
    return train.train_step(state, mesh.split_batch(running.mesh, batch), None, method)

  began = time.monotonic()
  name = f'members_{sum(1 << m for m in numbers):x}'  # bit m stands for member m
  stage = 'teacher' if len(numbers) == section.members else f'teacher-{numbers[0]}-{numbers[-1]}'
  with checkpoint.Checkpointer(folder / 'checkpoints' / name, log=writer.line) as checkpointer:
    variables, kept = loop.fit(
      stage,
      step,
      states,
      (feed,),
      steps=method.steps,
      batch=section.batch_size,
      loop=running,
      checkpointer=checkpointer,
      score=inference.scores(
        method, 'student', batch=config.evaluate.batch_size, device_mesh=running.mesh
      ),
      score_shared=build.validation(config, dataset),
      select=section.select if section.keep == 'best' else 'last',
    )
    variables = jax.device_get(variables)
    trained = {m: members.take(variables, i) for i, m in enumerate(numbers)}
    seconds = (time.monotonic() - began) / len(numbers)
    for i, m in enumerate(numbers):
      if m in missing:
        facts = {name: float(values[i]) for name, values in kept.items()}
        _save(folder, _name(m), trained[m], facts | {'seconds': seconds})
    checkpointer.remove()
  return trained


def _name(number: int) -> str:
  return f'member_{number:03d}'


def _save(folder, name, variables, facts) -> None:
  path = folder / f'{name}.safetensors'
  digest = safe.save_tensors(path, safe.flatten(variables))
  text = json.dumps({'sha256': digest, **facts}, indent=2)
  safe.write_atomic(path.with_suffix('.json'), text)


def _load(folder, name, writer, wanted=None):
  """What was stored by that name; None where there is nothing, or (with a warning) damage.

  `wanted` are facts that must hold of it; what was made from other facts is stale.
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
    writer.line(f'warning: {path} cannot be used ({error}); it is made again')
    return None
