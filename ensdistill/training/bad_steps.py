"""Losses that are not finite: stop, drop the update, or go back to a checkpoint."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import mesh, processes
from ensdistill.storage import safe
from ensdistill.training.clock import NonFinite
from ensdistill.training.feed import Feed
from ensdistill.training.step import TrainState

ON_NAN = ('stop', 'skip', 'rollback')
ROLLBACKS = 3  # most rollbacks of a stage
ROLLED = np.uint32(2**32 - 64)  # folded into an order; epochs and other purposes never reach it
BAD_STEP = 'bad_step.json'
OPTIONAL = ('logs/dropped', 'rollbacks')  # leaves of a checkpoint that depend on the setting


def other_order(states: TrainState, networks, number: int, sharding) -> TrainState:
  """Return the states with another order of batches for these networks, after rollback `number`.

  Networks that share an order share the new one. All other networks repeat their steps exactly.
  """
  words = mesh.fetch(jax.random.key_data(states.order))
  moved = (words[:, None] == words[None, list(networks)]).all(-1).any(-1)
  fold = jax.vmap(jax.random.fold_in, (0, None))
  orders = jax.random.wrap_key_data(jnp.asarray(words), impl=jax.random.key_impl(states.order))
  other = mesh.fetch(jax.random.key_data(fold(orders, ROLLED + np.uint32(number))))
  chosen = jnp.asarray(np.where(moved[:, None], other, words))
  order = jax.random.wrap_key_data(chosen, impl=jax.random.key_impl(states.order))
  return states._replace(order=mesh.place(order, sharding))


def describe(error: NonFinite, feed: Feed, orders, saved: int | None, folder: str) -> None:
  """Write the batch and the terms of a non-finite loss to a file; name the file in the error.

  saved: the step of the newest checkpoint.
  """
  if not folder:
    return
  path = pathlib.Path(folder) / BAD_STEP
  content = {
    'stage': error.stage,
    'network': error.network,
    'step': error.step,
    'last_good_step': error.step - 1,
    'last_checkpoint': saved,
    'terms': {name: v if np.isfinite(v) else str(v) for name, v in error.terms.items()},
    'batch_indices': feed.indices(orders[error.network], error.step),
  }

  def write() -> None:
    safe.write_atomic(path, json.dumps(content, indent=2) + '\n')

  try:
    processes.by_first(write)  # an error that the others raise first would end this process
  except OSError:  # the loss is the news, not a full disk
    return
  error.args = (f'{error}. {path} has the batch and the terms',)
