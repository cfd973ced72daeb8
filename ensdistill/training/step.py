"""The one train step, for a teacher's members and for every student; loop.py repeats it."""

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
  student, objective = method.student, method.objective
  key_perturb, key_dropout = jax.random.split(jax.random.fold_in(state.key, state.step))
  if method.mix:
    batch = method.mix(key_of_step(state.order, MIXING, state.step), batch)
  x = clean = batch['x']
  moved = {}
  if method.perturbation:
    frozen = student.freeze(state.variables)
    x = method.perturbation.apply(key_perturb, x, teacher, frozen, method.family, method.space)
    x = jax.lax.stop_gradient(x)
    moved = {'moved': (x != clean).reshape(len(x), -1).any(1).mean(dtype=jnp.float32)}
  targets = batch.get('teacher_outputs')
  if objective.loss and targets is None:
    assert teacher is not None, 'targets come from the batch or from the teacher'
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

    batch_stats, labelled = state.batch_stats, None
    if method.label_weight and method.perturbation and method.labels_on_clean:
      # The clean pass comes first, so that the running statistics end on the perturbed inputs.
      labelled, batch_stats = forward(clean, batch_stats, jax.random.fold_in(key_dropout, 1))
    outputs, batch_stats = forward(x, batch_stats, key_dropout)
    loss, terms = 0.0, {}
    if objective.loss:
      values = objective.schedule(state.step / method.steps)
      loss_B, terms = objective.loss(method.family, outputs, targets, **values)
      terms = {**jax.tree.map(jnp.mean, terms), objective.name: loss_B.mean(), **values}
      loss = (1 - method.label_weight) * terms[objective.name]
    if method.label_weight:
      labelled = outputs if labelled is None else labelled
      terms['labels'] = _label_loss(method, labelled, batch).mean()
      terms |= jax.tree.map(jnp.mean, objective.label_logs(method.family, labelled))
      loss += method.label_weight * terms['labels']
    return loss, (batch_stats, terms)

  (loss, (batch_stats, terms)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
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
