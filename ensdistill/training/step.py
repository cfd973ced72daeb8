"""The one train step, for a teacher's members and for every student; loop.py repeats it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ensdistill import members, nets
from ensdistill.method import Method

# Folded into a network's order. Epoch numbers are folded in too; they are int32, so they differ.
AUGMENTATION, MIXING = np.uint32(2**32 - 1), np.uint32(2**32 - 2)


class TrainState(NamedTuple):
  """Everything about one network in training; a checkpoint holds this and nothing else."""

  step: jax.Array
  params: Any
  batch_stats: Any  # {} for a network without batch norm
  opt_state: Any
  key: jax.Array  # the network's own randomness: dropout, perturbation
  order: jax.Array  # decides batches and augmentation; networks that share it see the same inputs
  number: jax.Array | None = None  # of the network's data set, where several train side by side

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
  """Return keys and orders of the networks with these numbers; each depends on its number alone."""
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
    teacher: the frozen ensemble; None where labels or stored outputs are all that is needed.
    method: the student, its objective and how it is trained.
  """
  key_perturb, key_dropout = jax.random.split(jax.random.fold_in(state.key, state.step))
  if method.mix:
    batch = method.mix(key_of_step(state.order, MIXING, state.step), batch)
  x = clean = batch['x']
  moved = {}
  if method.perturbation:
    frozen = members.in_parts(method.student.freeze(state.variables), method.microbatches)
    others = teacher and members.in_parts(teacher, method.microbatches)
    x = method.perturbation.apply(key_perturb, x, others, frozen, method.family, method.space)
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

  `batch` has the inputs of the loss as x, and those without perturbation as clean. Microbatches
  come one after another: running statistics pass through all of them, everything else is their
  mean. A number of examples that their number does not divide is refused.
  """
  parts = method.microbatches
  if parts == 1:
    return _gradients_of_part(state, state.batch_stats, batch, key, teacher, method)

  def of_part(batch_stats, part):
    own, key_of_part = part
    return _gradients_of_part(state, batch_stats, own, key_of_part, teacher, method)

  def add(carry, part):
    batch_stats, sums = carry
    loss, terms, batch_stats, grads = of_part(batch_stats, part)
    return (batch_stats, jax.tree.map(jnp.add, sums, (loss, terms, grads))), None

  each = (
    jax.tree.map(lambda array: members.split(array, parts), batch),
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
  student, objective, x = method.student, method.objective, batch['x']
  targets = batch.get('teacher_outputs')
  if objective.loss and targets is None:
    assert teacher is not None, 'targets come from the batch or from the teacher'
    targets = jax.lax.stop_gradient(teacher.outputs(x))

  clean_pass = bool(method.label_weight and method.perturbation and method.labels_on_clean)

  def forward(params, batch_stats, x, key):
    outputs, new = student.module.apply(
      {'params': params, 'batch_stats': batch_stats},
      x,
      True,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    return outputs, new.get('batch_stats', {})

  def loss_of(params, batch_stats, x, clean=True, moved=True):
    loss, terms, outputs, labelled = 0.0, {}, None, None
    if clean_pass and clean:
      # The clean pass comes first, so that the running statistics end on the perturbed inputs.
      key_clean = jax.random.fold_in(key, 1)
      labelled, batch_stats = forward(params, batch_stats, batch['clean'], key_clean)
    if moved:
      outputs, batch_stats = forward(params, batch_stats, x, key)
    if objective.loss and moved:
      values = objective.schedule(state.step / method.steps)
      loss_B, terms = objective.loss(method.family, outputs, targets, **values)
      terms = {**jax.tree.map(jnp.mean, terms), objective.name: loss_B.mean(), **values}
      loss = (1 - method.label_weight) * terms[objective.name]
    labelled = labelled if clean_pass else outputs
    if method.label_weight and labelled is not None:
      terms['labels'] = _label_loss(method, labelled, batch).mean()
      terms |= jax.tree.map(jnp.mean, objective.label_logs(method.family, labelled))
      loss += method.label_weight * terms['labels']
    return loss, (terms, batch_stats)

  def gradient(x, batch_stats, **passes):
    of = functools.partial(loss_of, **passes)
    differentiated = jax.value_and_grad(of, has_aux=True)(state.params, batch_stats, x)
    (loss, (terms, batch_stats)), grads = differentiated
    return (loss, terms, grads), batch_stats

  if not (clean_pass and nets.is_tpu(student.module)):
    (loss, terms, grads), batch_stats = gradient(x, batch_stats)
    return loss, terms, batch_stats, grads
  # One pass ends before the other begins, so that activations of one alone are kept.
  (first, terms, own), batch_stats = gradient(x, batch_stats, moved=False)
  own, x = jax.lax.optimization_barrier((own, x))
  (second, others, grads), batch_stats = gradient(x, batch_stats, clean=False)
  return first + second, terms | others, batch_stats, jax.tree.map(jnp.add, own, grads)


def _label_loss(method: Method, outputs, batch):
  """Return the loss of labels [B]; of mixed examples, both labels' losses by share."""

  def loss(y):
    return method.objective.label_loss(method.family, outputs, y)

  if 'share' not in batch:
    return loss(batch['y'])
  return batch['share'] * loss(batch['y']) + (1 - batch['share']) * loss(batch['y_other'])


def key_of_step(order, purpose, step):
  """Return the key of a step for a purpose other than the choice of its examples."""
  return jax.random.fold_in(jax.random.fold_in(order, purpose), step)
