"""The one train step, for a teacher's members and for every student; loop.py repeats it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ensdistill import members, nets
from ensdistill.method import Method
from ensdistill.training import microbatches

# Folded into a network's order. Epoch numbers are folded in too; they are int32, so they differ.
AUGMENTATION, MIXING = np.uint32(2**32 - 1), np.uint32(2**32 - 2)


class TrainState(NamedTuple):
  """Everything about one network in training."""

  step: jax.Array
  params: Any
  batch_stats: Any  # {} for a network without batch norm
  opt_state: Any
  key: jax.Array  # of the network's own randomness: dropout, perturbation
  order: jax.Array  # decides batches and augmentation; networks that share it see the same inputs
  number: jax.Array | None = None  # of the network's data set, if networks train on several

  @property
  def variables(self):
    return {'params': self.params, 'batch_stats': self.batch_stats}


def start(keys, orders, method: Method, example, variables=None, number=None) -> TrainState:
  """Return stacked fresh states [S, ...], one per key.

  Stacked `variables` replace random ones. `number` [S] assigns each network to its data set.
  """
  if variables is None:
    variables = nets.initial.variables(method.student.module, keys, example)

  @jax.jit
  @jax.vmap
  def states(key, order, variables, number):
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    opt_state = method.optimizer.init(params)
    return TrainState(jnp.int32(0), params, batch_stats, opt_state, key, order, number)

  return states(keys, orders, variables, number)


def network_keys(root, numbers, shared_order: bool = False):
  """Return keys and orders of networks; each depends on the number of its network alone."""
  own = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(root, n)))(jnp.asarray(numbers))
  if shared_order:
    order = jax.random.fold_in(root, 2**31 - 1)
    return own[:, 0], jnp.broadcast_to(order, own[:, 1].shape)
  return own[:, 0], own[:, 1]


def train_step(state: TrainState, batch, teacher: members.Members | None, method: Method):
  """Return the state after one update, and the terms to log.

  Args:
    state: one network.
    batch: x [B, ...] in the input space, y, and teacher_outputs [B, M, O] where they are stored.
    teacher: the frozen ensemble; None if the step needs labels or stored outputs alone.
    method: the student, its objective and how it is trained.
  """
  key_perturb, key_dropout = jax.random.split(jax.random.fold_in(state.key, state.step))
  if method.mix:
    batch = method.mix(key_of_step(state.order, MIXING, state.step), batch)
  x = clean = batch['x']
  moved = {}
  if method.perturbation:
    frozen = microbatches.in_parts(method.student.freeze(state.variables), method.microbatches)
    ensemble = teacher and microbatches.in_parts(teacher, method.microbatches)
    x = method.perturbation.apply(key_perturb, x, ensemble, frozen, method.family, method.space)
    x = jax.lax.stop_gradient(x)
    moved = {'moved': (x != clean).reshape(len(x), -1).any(1).mean(dtype=jnp.float32)}
  batch = {**batch, 'x': x, 'clean': clean}
  loss, terms, batch_stats, grads = _gradients(state, batch, key_dropout, teacher, method)
  updates, opt_state = method.optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  logs = {'loss': loss, **terms, **moved, 'grad_norm': optax.tree.norm(grads)}
  new = {'params': params, 'batch_stats': batch_stats, 'opt_state': opt_state}
  return state._replace(step=state.step + 1, **new), jax.tree.map(
    lambda value: jnp.asarray(value, jnp.float32), logs
  )


def dropped_if_bad(before: TrainState, after: TrainState, finite):
  """Return (state, finite): `after`, or `before` one step later where `after` is not finite.

  finite: whether the step's loss and gradient are finite. An update that makes parameters, running
  statistics or the optimiser's state non-finite is dropped, too.
  """
  for leaf in jax.tree.leaves((after.params, after.batch_stats, after.opt_state)):
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
      finite &= jnp.isfinite(leaf).all()
  kept = before._replace(step=after.step)

  def choose(new, old):
    return jnp.where(finite, new, old)

  fields = ('params', 'batch_stats', 'opt_state')
  chosen = {
    name: jax.tree.map(choose, getattr(after, name), getattr(before, name)) for name in fields
  }
  return kept._replace(**chosen), finite


def _gradients(state: TrainState, batch, key, teacher, method: Method):
  """Return loss, terms to log, running statistics and gradients of a batch.

  `batch` has the inputs of the matching loss as x, and the inputs without perturbation as clean.
  Microbatches are computed in turn: running statistics pass from one to the next, everything else
  is the mean over them. Their number must divide the batch.
  """
  parts = method.microbatches
  if parts == 1:
    return _gradients_of_part(state, state.batch_stats, batch, key, teacher, method)

  def of_part(batch_stats, part):
    batch_of_part, key_of_part = part
    return _gradients_of_part(state, batch_stats, batch_of_part, key_of_part, teacher, method)

  def add(carry, part):
    batch_stats, sums = carry
    loss, terms, batch_stats, grads = of_part(batch_stats, part)
    return (batch_stats, jax.tree.map(jnp.add, sums, (loss, terms, grads))), None

  each = (
    jax.tree.map(lambda array: microbatches.split(array, parts), batch),
    jax.random.split(key, parts),
  )
  first = jax.tree.map(lambda array: array[0], each)
  loss, terms, batch_stats, grads = jax.eval_shape(of_part, state.batch_stats, first)
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (loss, terms, grads))
  (batch_stats, sums), _ = jax.lax.scan(add, (state.batch_stats, zeros), each)
  loss, terms, grads = jax.tree.map(lambda total: total / parts, sums)
  return loss, terms, batch_stats, grads


def _gradients_of_part(state: TrainState, batch_stats, batch, key, teacher, method: Method):
  """Return what `_gradients` does, for one microbatch."""
  if method.objective.loss and 'teacher_outputs' not in batch:
    assert teacher is not None, 'targets come from the batch or from the teacher'
    targets = jax.lax.stop_gradient(teacher.outputs(batch['x']))
    batch = {**batch, 'teacher_outputs': targets}

  def gradient(passes, batch_stats, batch):
    differentiated = jax.value_and_grad(passes, has_aux=True)
    return differentiated(state.params, batch_stats, batch, key, state.step, method)

  if not (method.labels_apart and nets.is_tpu(method.student.module)):
    passes = _both_passes if method.labels_apart else _main_pass
    (loss, (terms, batch_stats)), grads = gradient(passes, batch_stats, batch)
    return loss, terms, batch_stats, grads
  # One pass ends before the other begins, so that activations of one alone are kept.
  (labels, (label_terms, batch_stats)), label_grads = gradient(_clean_pass, batch_stats, batch)
  label_grads, x = jax.lax.optimization_barrier((label_grads, batch['x']))
  (loss, (terms, batch_stats)), grads = gradient(_main_pass, batch_stats, {**batch, 'x': x})
  grads = jax.tree.map(jnp.add, label_grads, grads)
  return loss + labels, terms | label_terms, batch_stats, grads


# Each pass returns (loss, (terms to log, running statistics)): a function to differentiate.


def _main_pass(params, batch_stats, batch, key, step, method: Method):
  """Compute the matching loss and, unless labels have a pass of their own, the labels' loss."""
  outputs, batch_stats = _forward(params, batch_stats, batch['x'], key, method)
  loss, terms = _matching_loss(method, outputs, batch, step)
  if method.label_weight and not method.labels_apart:
    labels, label_terms = _labels_loss(method, outputs, batch)
    loss, terms = loss + labels, terms | label_terms
  return loss, (terms, batch_stats)


def _clean_pass(params, batch_stats, batch, key, step, method: Method):
  """Compute the labels' loss on the inputs without perturbation."""
  del step
  key = jax.random.fold_in(key, 1)
  outputs, batch_stats = _forward(params, batch_stats, batch['clean'], key, method)
  labels, terms = _labels_loss(method, outputs, batch)
  return labels, (terms, batch_stats)


def _both_passes(params, batch_stats, batch, key, step, method: Method):
  """Compute the sum of both; running statistics end on the perturbed inputs."""
  labels, (label_terms, batch_stats) = _clean_pass(params, batch_stats, batch, key, step, method)
  loss, (terms, batch_stats) = _main_pass(params, batch_stats, batch, key, step, method)
  return loss + labels, (terms | label_terms, batch_stats)


def _forward(params, batch_stats, x, key, method: Method):
  """Return the student's outputs in training, and the new running statistics."""
  outputs, new = method.student.module.apply(
    {'params': params, 'batch_stats': batch_stats},
    x,
    True,
    mutable=['batch_stats'],
    rngs={'dropout': key},
  )
  return outputs, new.get('batch_stats', {})


def _matching_loss(method: Method, outputs, batch, step):
  """Return the weighted loss between outputs of student and teacher, and terms to log."""
  objective = method.objective
  if not objective.loss:
    return 0.0, {}
  values = objective.schedule(step / method.steps)
  loss_B, terms = objective.loss(method.family, outputs, batch['teacher_outputs'], **values)
  terms = {**jax.tree.map(jnp.mean, terms), objective.name: loss_B.mean(), **values}
  return (1 - method.label_weight) * terms[objective.name], terms


def _labels_loss(method: Method, outputs, batch):
  """Return the weighted loss of the labels, and terms to log."""
  loss = _label_loss_B(method, outputs, batch).mean()
  terms = jax.tree.map(jnp.mean, method.objective.label_logs(method.family, outputs))
  return method.label_weight * loss, {'labels': loss} | terms


def _label_loss_B(method: Method, outputs, batch):
  """Return the loss of each label [B]; of mixed examples, both labels' losses by share."""

  def loss(y):
    return method.objective.label_loss(method.family, outputs, y)

  if 'share' not in batch:
    return loss(batch['y'])
  return batch['share'] * loss(batch['y']) + (1 - batch['share']) * loss(batch['y_other'])


def key_of_step(order, purpose, step):
  """Return the key of a step for a purpose other than the choice of its examples."""
  return jax.random.fold_in(jax.random.fold_in(order, purpose), step)
