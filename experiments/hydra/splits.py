"""Train the ensembles and the students of many splits of one data set in one program.

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

from ensdistill import data, distillation, members, planning
from ensdistill.config import build, inputs
from ensdistill.config.build import Plan
from ensdistill.config.settings import KEPT
from ensdistill.data.dataset import Dataset, Split
from ensdistill.evaluation import inference, measure, sets
from ensdistill.method import Method
from ensdistill.perturb import Space
from ensdistill.training import stage
from ensdistill.training.feed import OnDevice, OnDeviceValidation
from ensdistill.training.stage import Frozen
from ensdistill.training.step import TrainState, network_keys, start

_NO_SHIFT = ('none', 'default')  # tables have none by default


class Trained(NamedTuple):
  """One kind of network on every split: stacked variables, and how one of them is applied."""

  method: Method
  variables: Any  # leaves [splits, ...]; of teachers [splits, members, ...]
  freeze: Callable  # variables of one split -> members.Members


def load(config, numbers) -> list[Dataset]:
  """Return these splits of the configuration's data set, as they are stored."""
  unused = {'data.aux': config.data.aux, 'evaluate.shift': config.evaluate.shift not in _NO_SHIFT}
  unused |= {'seeds': config.seeds != 1, 'augment': any(config.augment.values())}
  unused |= {'evaluate.train': bool(config.evaluate.train)}
  unused |= {'student.seed': bool(config.student.seed)}
  for name, given in unused.items():
    if given:
      raise ValueError(
        f'{name} has no effect on splits of tables that are trained together: unset it'
      )
  settings = inputs.data_settings(config.data)
  found = []
  for number in numbers:
    own = {'split': number, 'seed': config.seed + number, 'dir': config.data.dir or None}
    found.append(data.load(config.data.name, **settings | own))
  return found


def standardised(dataset: Dataset) -> Dataset:
  """Return a table with inputs in standard deviations from the mean of its training split.

  A network has nothing left to normalise, so networks of different splits are one program.
  """
  if len(dataset.shape) != 1:
    raise ValueError(f'{dataset.name} holds images: splits of tables are trained together')

  def standard(split):
    return Split(_standard(split.x, dataset), split.y)

  width = dataset.shape[0]
  unit = np.asarray(dataset.space.unit / np.asarray(dataset.std, np.float32), np.float32)
  return dataclasses.replace(
    dataset,
    train=standard(dataset.train),
    valid=standard(dataset.valid),
    test=standard(dataset.test),
    mean=(0.0,) * width,
    std=(1.0,) * width,
    space=Space(-np.inf, np.inf, unit),
  )


def evaluated(config, datasets, not_run: dict) -> list[dict]:
  """Return {'test': inputs, 'ood/<set>': ...} of every split as stored, all standardised."""
  found = []
  for number, dataset in enumerate(datasets):
    reading = {'dir': config.data.dir or None, 'seed': config.seed + number}
    own = sets.inputs(dataset, config.evaluate.ood, not_run, **reading)
    found.append({name: _standard(np.asarray(x), dataset) for name, x in own.items()})
  return found


def _standard(x, dataset) -> np.ndarray:
  mean, std = (np.asarray(v, np.float64)[None] for v in (dataset.mean, dataset.std))
  return ((x - mean) / std).astype(np.float32)


def plan(config, datasets, folder) -> Plan:
  """Return the plan of networks on all splits, which differ in their data alone."""
  config = config.copy_and_resolve_references()
  if config.teacher.outputs or config.teacher.source:
    raise ValueError(
      'teacher.outputs and teacher.source belong to one split: train every split with '
      '`ensdistill train`'
    )
  first = datasets[0]
  return planning.plan(config, planning.parts(config), first, first, folder)


def teachers(plan: Plan, datasets, writer) -> Trained:
  """Train the ensembles of all splits together."""
  section, size, method = plan.config.teacher, plan.config.teacher.members, plan.teacher
  seeds = [plan.config.seed + number for number in range(len(datasets))]
  shared = section.order == 'shared'
  every = [network_keys(jax.random.key(seed), range(size), shared) for seed in seeds]
  keys, orders = _joined(every)
  number = np.repeat(np.arange(len(datasets), dtype=np.int32), size)
  states = start(keys, orders, method, jnp.zeros((1, *datasets[0].shape)), None, number)
  feed = OfSplits(_stacked(datasets, 'train'), section.batch_size)
  variables = _train(plan, 'teacher', section, method, states, feed, datasets, writer)
  strategy = build.strategy(section, method)

  def freeze(variables):
    return members.frozen(method.student.module.apply, variables, strategy)

  def by_split(leaf):
    return leaf.reshape(len(datasets), size, *leaf.shape[1:])

  return Trained(method, jax.tree.map(by_split, variables), freeze)


def students(plan: Plan, datasets, teacher: Trained, writer) -> Trained:
  """Train the students of all splits together, each from its own ensemble, phase by phase."""
  config, section = plan.config, plan.config.student
  arrays, frozen = _stacked(datasets, 'train'), _frozen(teacher)
  if section.targets in KEPT:
    arrays['teacher_outputs'], frozen = targets(config, datasets, teacher), None
  variables, number = None, np.arange(len(datasets), dtype=np.int32)
  for place, phase in enumerate(plan.phases):
    before = jax.vmap(phase.start)(variables) if phase.start else None
    seeds = [config.seed + p for p in range(len(datasets))]
    keys, orders = _joined([distillation.student_keys(seed, place, 1) for seed in seeds])
    example = jnp.zeros((1, *datasets[0].shape))
    states = start(keys, orders, phase.method, example, before, number)
    feed = OfSplits(arrays, section.batch_size)
    variables = _train(
      plan, phase.name, section, phase.method, states, feed, datasets, writer, frozen
    )
  return Trained(plan.student, variables, plan.student.student.freeze)


def targets(config, datasets, teacher: Trained) -> np.ndarray:
  """Return every ensemble's outputs on its own training inputs: [splits, N, M, O]."""
  predictor = _predictor(config, datasets[0], teacher, config.evaluate.batch_size)
  every = [
    predictor.outputs(members.take(teacher.variables, number), dataset.train.x)
    for number, dataset in enumerate(datasets)
  ]
  return np.stack(every)


def _frozen(teacher: Trained) -> Frozen:
  """Return the ensembles for the step; each network uses that of its split."""

  def freeze(variables, state):
    return teacher.freeze(members.take(variables, state.number))

  return Frozen(teacher.variables, freeze)


class OfSplits(OnDevice):
  """A training feed of arrays [splits, N, ...]: a network's batches come from its own split."""

  def draw(self, seen, state) -> dict[str, jax.Array]:
    """Return the batch of a step from the network's split."""
    size = seen['x'].shape[1]
    index = data.sampler.indices(state.order, state.step, size=size, batch=self.batch)
    return {name: values[state.number, index] for name, values in seen.items()}

  @property
  def size(self) -> int:
    """The number of training examples of a split."""
    return self.arrays['x'].shape[1]


class _Validation(OnDeviceValidation):
  """Validation sets [splits, N, ...]; each network is scored on that of its split."""

  def examples(self, seen, number):
    x, y = seen
    return x[number], y[number]


def _joined(keys):
  """Return keys and orders of several splits, one after the other."""
  return [jnp.concatenate(part) for part in zip(*keys)]


def _stacked(datasets, part: str) -> dict:
  """Return a part of every split: arrays [splits, N, ...] by name, as training sees them."""
  sizes = [len(getattr(d, part).x) for d in datasets]
  if len(set(sizes)) > 1:
    raise ValueError(
      f'{datasets[0].name}: splits differ in their {part} examples ({min(sizes)} to {max(sizes)}): '
      'only splits of one size are trained together; train these one by one'
    )
  arrays = [build.arrays(getattr(d, part), d) for d in datasets]
  return {name: np.stack([a[name] for a in arrays]) for name in arrays[0]}


def _train(plan, name, section, method, states: TrainState, feed, datasets, writer, frozen=None):
  """Train the networks of all splits through one stage; return their variables."""
  x, y = _stacked(datasets, 'valid').values()
  variables, _ = stage.train(
    name=name,
    method=method,
    states=states,
    feed=feed,
    validation=_Validation(x, y, plan.config.evaluate.batch_size),
    loop=plan.loop(section, method, len(states.step), writer),
    folder=plan.folder / 'checkpoints' / name,
    teacher=frozen,
  )
  return jax.device_get(variables)


def predict(config, datasets, seen: list[dict], trained: Trained) -> list[dict]:
  """Return {'test': predictive, 'ood/<set>': ...} of every split, in the target's own units."""
  batch = min(config.evaluate.batch_size, max(len(x) for x in seen[0].values()))
  outputs = _predictor(config, datasets[0], trained, batch)
  predictions = []
  for number, (dataset, own_sets) in enumerate(zip(datasets, seen)):
    own = members.take(trained.variables, number)
    predictor = outputs.in_units_of(dataset)
    predictions.append({name: predictor(own, x) for name, x in own_sets.items()})
  return predictions


def _predictor(config, dataset, trained: Trained, batch: int) -> inference.Predictor:
  settings = {'batch': batch, 'precision': config.evaluate.precision}
  return inference.predictor(trained.method, trained.freeze, dataset, **settings)


def member_scores(datasets, predictions: list[dict]) -> list[dict]:
  """Return {metric: mean over the members, each alone} of every split."""
  found = []
  for dataset, predicted in zip(datasets, predictions):
    size = predicted['test'].mean_BMD.shape[1]
    every = [measure.sets(dataset, _member(predicted, m)) for m in range(size)]
    found.append({key: float(np.mean([one[key] for one in every])) for key in every[0]})
  return found


def _member(predicted: dict, number: int) -> dict:
  return jax.tree.map(lambda leaf: leaf[:, number : number + 1], predicted)


def scores(datasets, predictions: list[dict], ensembles: list[dict] | None = None) -> list[dict]:
  """Return {metric: value} of every split; rows.of_repeats makes a row of them."""
  against: list[dict | None] = [*ensembles] if ensembles else [None] * len(datasets)
  parts = zip(datasets, predictions, against)
  return [measure.sets(dataset, own, ensemble=other) for dataset, own, other in parts]
