"""Many splits of one data set in one program: the ensembles of all of them, and their students.

A network in training carries the number of its split, and its batches come from that split alone.
So twenty ensembles of fifty members are a thousand networks side by side in the one loop, and each
of them is the network that a run of its split alone would have trained (with seed = seed + split).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, distillation, members, mesh
from ensdistill.config import build, checks
from ensdistill.config.settings import KEPT
from ensdistill.data.dataset import Dataset, Split
from ensdistill.evaluation import inference, measure
from ensdistill.evaluation import sets as sets_lib
from ensdistill.perturb import Space
from ensdistill.storage import checkpoint
from ensdistill.training import loop
from ensdistill.training import step as train

_NO_SHIFT = ('none', 'default')  # tables have none by default


class Trained(NamedTuple):
  """One kind of network on every split: stacked variables, and how one of them is applied."""

  method: train.Method
  variables: Any  # leaves [splits, ...]; of teachers [splits, members, ...]
  freeze: Callable  # variables of one split -> members.Members


class Numbered(NamedTuple):
  """The state or the variables of a network, with the number of its split."""

  number: jax.Array
  of: Any

  @property
  def step(self):
    return self.of.step

  @property
  def variables(self):
    return Numbered(self.number, self.of.variables)


def load(config, numbers) -> list[Dataset]:
  """These splits of the configuration's data set, as they are stored."""
  unused = {'data.aux': config.data.aux, 'evaluate.shift': config.evaluate.shift not in _NO_SHIFT}
  unused |= {'seeds': config.seeds != 1, 'augment': any(config.augment.values())}
  for name, given in unused.items():
    if given:
      raise ValueError(
        f'{name} has no effect on splits of tables that are trained together: unset it'
      )
  checks.check(config)
  settings = build.data_settings(config.data)
  found = []
  for number in numbers:
    own = {'split': number, 'seed': config.seed + number, 'dir': config.data.dir or None}
    found.append(data.load(config.data.name, **settings | own))
  checks.check_fits(config, found[0].family)
  return found


def standardised(dataset: Dataset) -> Dataset:
  """A table whose inputs are in standard deviations from their mean, those of its training split.

  A network on it has nothing left to normalise, so networks of different splits are one program.
  """
  if len(dataset.shape) != 1:
    raise ValueError(f'{dataset.name} holds images: splits of tables are trained together')
  parts = {
    part: Split(_standard(x, dataset), y)
    for part in ('train', 'valid', 'test')
    for x, y in [getattr(dataset, part)]
  }
  width = dataset.shape[0]
  unit = np.asarray(dataset.space.unit / np.float32(dataset.std), np.float32)
  return dataclasses.replace(
    dataset,
    **parts,
    mean=(0.0,) * width,
    std=(1.0,) * width,
    space=Space(-np.inf, np.inf, unit),
  )


def inputs(config, datasets, not_run: dict) -> list[dict]:
  """{'test': inputs, 'ood/<set>': ...} of every split as it is stored, all of them standardised."""
  found, settings = [], {'dir': config.data.dir or None}
  for number, dataset in enumerate(datasets):
    settings['seed'] = config.seed + number
    own = sets_lib.inputs(dataset, config.evaluate.ood, not_run, **settings)
    found.append({name: _standard(np.asarray(x), dataset) for name, x in own.items()})
  return found


def _standard(x, dataset) -> np.ndarray:
  mean, std = (np.asarray(v, np.float64)[None] for v in (dataset.mean, dataset.std))
  return ((x - mean) / std).astype(np.float32)


def teachers(config, datasets, folder, writer) -> Trained:
  """The ensembles of all splits, trained together."""
  section, size = config.teacher, config.teacher.members
  method = build.teacher_method(config, datasets[0])
  own = [
    train.keys(jax.random.key(config.seed + p), range(size), section.order == 'shared')
    for p in range(len(datasets))
  ]
  states = train.start(*_joined(own), method, jnp.zeros((1, *datasets[0].shape)))
  number = np.repeat(np.arange(len(datasets), dtype=np.int32), size)
  shared = (_stacked(datasets, 'train'),)
  parts = 'teacher', section, method, Numbered(number, states), shared, None
  variables, strategy = _fit(config, datasets, parts, 'student', folder, writer)
  shape = lambda leaf: leaf.reshape(len(datasets), size, *leaf.shape[1:])
  freeze = lambda variables: members.frozen(method.student.module.apply, variables, strategy)
  return Trained(method, jax.tree.map(shape, variables), freeze)


def students(config, datasets, teacher: Trained, folder, writer) -> Trained:
  """The students of all splits, each of its own ensemble, trained together phase by phase."""
  config = config.copy_and_resolve_references()
  checks.settle_targets(config, streams=False)
  section, arrays, frozen = config.student, _stacked(datasets, 'train'), teacher.variables
  if section.targets in KEPT:
    arrays['teacher_outputs'], frozen = targets(config, datasets, teacher), None
  variables, number = None, np.arange(len(datasets), dtype=np.int32)
  for phase_number, phase in enumerate(distillation.phases(config, datasets[0])):
    before = jax.vmap(phase.start)(variables) if phase.start else None
    own = [distillation.keys(config.seed + p, phase_number, 1) for p in range(len(datasets))]
    example = jnp.zeros((1, *datasets[0].shape))
    states = train.start(*_joined(own), phase.method, example, before)
    shared = (arrays, frozen) if frozen else (arrays,)
    parts = phase.name, section, phase.method, Numbered(number, states), shared, teacher
    view = 'student-averaged' if section.view == 'averaged' else 'student'
    variables, _ = _fit(config, datasets, parts, view, folder, writer)
  return Trained(phase.method, variables, phase.method.student.freeze)


def targets(config, datasets, teacher: Trained) -> np.ndarray:
  """Every ensemble's outputs on its own training inputs: [splits, N, M, O]."""
  program = _program(config, teacher, lambda outputs: outputs, config.evaluate.batch_size)
  own = lambda number: members.take(teacher.variables, number)
  return np.stack([program(own(p), d.train.x) for p, d in enumerate(datasets)])


def _joined(keys):
  """Keys and orders of several splits, one after the other."""
  return [jnp.concatenate(part) for part in zip(*keys)]


def _stacked(datasets, part: str) -> dict:
  """A part of every split: arrays [splits, N, ...] by name, in the form that training sees."""
  sizes = [len(getattr(d, part).x) for d in datasets]
  if len(set(sizes)) > 1:
    raise ValueError(
      f'{datasets[0].name}: splits differ in their {part} examples ({min(sizes)} to {max(sizes)}), '
      'and are trained together only where they have as many: train them one by one'
    )
  arrays = [build.arrays(getattr(d, part), d) for d in datasets]
  return {name: np.stack([a[name] for a in arrays]) for name in arrays[0]}


def _fit(config, datasets, parts, view, folder, writer):
  """Trains the networks of all splits in the one loop; a stage that is done is not done again."""
  stage, section, method, states, shared, teacher = parts
  running = build.loop(config, section, method, len(states.number), writer, folder)
  size = len(datasets[0].train.x)

  def step(numbered, arrays, frozen=None):
    number, state = numbered
    index = data.sampler.indices(state.order, state.step, size=size, batch=section.batch_size)
    batch = {name: values[number, index] for name, values in arrays.items()}
    batch = mesh.split_batch(running.mesh, batch)
    if frozen is not None:
      frozen = teacher.freeze(members.take(frozen, number))
    state, logs = train.train_step(state, batch, frozen, method)
    return Numbered(number, state), logs

  score_one = inference.scores(
    method, view, batch=config.evaluate.batch_size, device_mesh=running.mesh
  )
  score = lambda numbered, x, y: score_one(numbered.of, x[numbered.number], y[numbered.number])
  with checkpoint.Checkpointer(folder / 'checkpoints' / stage, log=writer.line) as checkpointer:
    variables, _ = loop.fit(
      stage,
      step,
      states,
      shared,
      steps=method.steps,
      batch=section.batch_size,
      loop=running,
      checkpointer=checkpointer,
      score=score,
      score_shared=tuple(_stacked(datasets, 'valid').values()),
      select=section.select if section.keep == 'best' else 'last',
      select_from=train.settled(method),
    )
  return jax.device_get(variables.of), running.strategy


def predict(config, datasets, seen: list[dict], trained: Trained) -> list[dict]:
  """{'test': predictive, 'ood/<set>': ...} of every split's inputs, in its target's own units."""
  batch = min(config.evaluate.batch_size, max(len(x) for x in seen[0].values()))
  method = trained.method
  predictive = lambda outputs: method.objective.predictive(method.family, outputs)
  program = _program(config, trained, predictive, batch)
  predictions = []
  for number, (dataset, sets) in enumerate(zip(datasets, seen)):
    own, units = members.take(trained.variables, number), (dataset.target_mean, dataset.target_std)
    predictions.append({n: inference.in_units(program(own, x), *units) for n, x in sets.items()})
  return predictions


def _program(config, trained: Trained, function, batch: int) -> inference.Program:
  """(variables of one split, x) -> function of their outputs, in blocks of inputs."""
  return inference.Program(
    lambda variables, x: function(trained.freeze(variables).outputs(x)),
    batch=batch,
    device_mesh=mesh.make(1, batch),
    precision=config.evaluate.precision,
  )


def member_scores(datasets, predictions: list[dict]) -> list[dict]:
  """{metric: mean over the members, each on its own} of every split."""
  found = []
  for dataset, sets in zip(datasets, predictions):
    part = lambda m: jax.tree.map(lambda leaf: leaf[:, m : m + 1], sets)  # noqa: B023
    every = [measure.sets(dataset, part(m)) for m in range(sets['test'].mean_BMD.shape[1])]
    found.append({key: float(np.mean([one[key] for one in every])) for key in every[0]})
  return found


def scores(datasets, predictions: list[dict], ensembles: list[dict] | None = None) -> list[dict]:
  """{metric: value} of every split; compare.row makes a row of them."""
  against = ensembles or [None] * len(datasets)
  parts = zip(datasets, predictions, against)
  return [measure.sets(dataset, own, ensemble=other) for dataset, own, other in parts]
