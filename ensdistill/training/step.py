"""The one train step, for a teacher's members and for every student; loop.py repeats it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ensdistill import data, members, nets
from ensdistill.objectives import Objective
from ensdistill.perturb import Perturbation, Space
from ensdistill.students import Student

# Folded into a network's order, as the numbers of its epochs are: those are int32 and end below.
AUGMENTATION, MIXING = np.uint32(2**32 - 1), np.uint32(2**32 - 2)


class TrainState(NamedTuple):
  """All that one network in training is; a checkpoint holds this and nothing else."""

  step: jax.Array
  params: Any
  batch_stats: Any  # {} for a network without batch norm
  opt_state: Any
  key: jax.Array  # the network's own randomness: dropout, perturbation
  order: jax.Array  # decides batches and augmentation; networks that share it see the same inputs

  @property
  def variables(self):
    return {'params': self.params, 'batch_stats': self.batch_stats}


@dataclasses.dataclass(frozen=True)
class Method:
  """What a step trains and towards what: a point on the three axes, with the labels' weight."""

  student: Student
  family: Any
  objective: Objective
  optimizer: optax.GradientTransformation
  steps: int
  space: Space
  perturbation: Perturbation | None = None
  label_weight: float = 0.0
  labels_on_clean: bool = True
  mix: Callable | None = None  # (key, batch) -> batch


def settled(method: Method) -> int:
  """Steps after which the objective's schedule holds its last values.

  A checkpoint from before would be of another loss: EnD² ends at T = 1, and what a student scores
  at the higher temperatures that lead there says nothing of it.
  """
  values = method.objective.schedule(np.arange(method.steps + 1) / method.steps)
  values = [np.broadcast_to(value, method.steps + 1) for value in values.values()]
  return max(
    [int(np.flatnonzero(value != value[-1]).max(initial=-1)) + 1 for value in values] or [0]
  )


def start(keys, orders, method: Method, example, variables=None) -> TrainState:
  """Stacked fresh states [S, ...], one a key; stacked `variables` take the place of random ones."""
  if variables is None:
    variables = nets.initial.variables(method.student.module, keys, example)

  @jax.jit
  @jax.vmap
  def states(key, order, variables):
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    return TrainState(jnp.int32(0), params, batch_stats, method.optimizer.init(params), key, order)

  return states(keys, orders, variables)


def keys(root, numbers, shared_order: bool = False):
  """Keys and orders of the networks with these numbers: one's own depend on its number alone."""
  own = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(root, n)))(jnp.asarray(numbers))
  if shared_order:
    order = jax.random.fold_in(root, 2**31 - 1)
    return own[:, 0], jnp.broadcast_to(order, own[:, 1].shape)
  return own[:, 0], own[:, 1]


def train_step(state: TrainState, batch, teacher: members.Members | None, method: Method):
  """One update. batch: x [B, ...] in the input space, y, and teacher_outputs if they are stored."""
  student, objective = method.student, method.objective
  key_perturb, key_dropout = jax.random.split(jax.random.fold_in(state.key, state.step))
  if method.mix:
    batch = method.mix(of_step(state.order, MIXING, state.step), batch)
  x = clean = batch['x']
  moved = {}
  if method.perturbation:
    frozen = student.freeze(state.variables)
    x = method.perturbation.apply(key_perturb, x, teacher, frozen, method.family, method.space)
    x = jax.lax.stop_gradient(x)
    moved = {'moved': (x != clean).reshape(len(x), -1).any(1).mean(dtype=jnp.float32)}
  targets = batch.get('teacher_outputs')
  if objective.loss and targets is None:
    targets = jax.lax.stop_gradient(teacher.outputs(x))

  def loss_of(params):
    def forward(x, batch_stats, key):
      outputs, new = student.module.apply(
        {'params': params, 'batch_stats': batch_stats},
        x,
        True,
        mutable=['batch_stats'],
        rngs={'dropout': key},
      )
      return outputs, new.get('batch_stats', {})

    outputs, batch_stats = forward(x, state.batch_stats, key_dropout)
    loss, terms = 0.0, {}
    if objective.loss:
      values = objective.schedule(state.step / method.steps)
      loss_B, terms = objective.loss(method.family, outputs, targets, **values)
      terms = {**jax.tree.map(jnp.mean, terms), objective.name: loss_B.mean(), **values}
      loss = (1 - method.label_weight) * terms[objective.name]
    if method.label_weight:
      if method.perturbation and method.labels_on_clean:
        # A second pass in training mode, from the first one's running statistics.
        outputs, batch_stats = forward(clean, batch_stats, jax.random.fold_in(key_dropout, 1))
      terms['labels'] = _label_loss(method, outputs, batch).mean()
      terms |= jax.tree.map(jnp.mean, objective.label_logs(method.family, outputs))
      loss += method.label_weight * terms['labels']
    return loss, (batch_stats, terms)

  (loss, (batch_stats, terms)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
  updates, opt_state = method.optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  logs = {'loss': loss, **terms, **moved, 'grad_norm': optax.tree.norm(grads)}
  state = TrainState(state.step + 1, params, batch_stats, opt_state, state.key, state.order)
  return state, jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), logs)


def _label_loss(method: Method, outputs, batch):
  """[B]; where examples are mixtures the losses of both labels, in the shares of their inputs."""
  loss = lambda y: method.objective.label_loss(method.family, outputs, y)
  if 'share' not in batch:
    return loss(batch['y'])
  return batch['share'] * loss(batch['y']) + (1 - batch['share']) * loss(batch['y_other'])


def draw(arrays, order, step, *, batch: int, augment: Callable | None = None):
  """The batch of a step: a pure function of (order, step), gathered and augmented on the device.

  arrays: the whole training set by name, or what a stream read for this step.
  """
  if isinstance(arrays, data.Batch):
    own = (arrays.orders == jax.random.key_data(order)[None]).all(-1).argmax()
    drawn = {name: values[own] for name, values in arrays.arrays.items()}
  else:
    index = data.sampler.indices(order, step, size=arrays['x'].shape[0], batch=batch)
    drawn = {name: jnp.take(values, index, axis=0) for name, values in arrays.items()}
  drawn['x'] = data.as_input(drawn['x'])
  if augment:
    drawn['x'] = augment(of_step(order, AUGMENTATION, step), drawn['x'])
  return drawn


def of_step(order, purpose, step):
  """The key of a step for a purpose that is not the choice of its examples."""
  return jax.random.fold_in(jax.random.fold_in(order, purpose), step)
