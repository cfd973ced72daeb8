"""What happens at losses that are not finite: stop, drop the update, or go back to a checkpoint."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import mesh, processes
from ensdistill.storage import safe
from ensdistill.training.clock import SKIPS, Logs, NonFinite
from ensdistill.training.feed import Feed

ON_NAN = ('stop', 'skip', 'rollback')
ROLLBACKS = 3  # most rollbacks of a stage
ROLLED = np.uint32(2**32 - 64)  # folded into an order; epochs and other purposes never reach it
BAD_STEP = 'bad_step.json'
OPTIONAL = ('logs/dropped', 'rollbacks')  # leaves of a checkpoint that depend on the setting


def counted(logs: Logs, at, finite, terms: dict) -> Logs:
  """Return the logs after step `at`, whose update is dropped unless it is finite.

  `bad` is the first step of a row of dropped updates. After more than SKIPS of them it stays, so
  that the host sees it.
  """
  first = ~finite & (logs.bad < 0)
  stays = (logs.bad >= 0) & (~finite | (at - logs.bad > SKIPS))

  def add(old, new):
    return old + jnp.where(finite, new, 0)

  return Logs(
    jax.tree.map(add, logs.sums, terms),
    jnp.where(first, at, jnp.where(stays, logs.bad, -1)),
    jax.tree.map(lambda old, new: jnp.where(first, new, old), logs.bad_terms, terms),
    logs.dropped + ~finite,
  )


def other_order(back: tuple[int, dict], networks, sharding) -> tuple[int, dict]:
  """Return step and carry with another order of batches for these networks.

  Networks of the same order get the same new one; all others train again as before.
  """
  at, carry = back
  states, rollbacks = carry['states'], carry['rollbacks'] + 1
  words = mesh.fetch(jax.random.key_data(states.order))
  moved = (words[:, None] == words[None, list(networks)]).all(-1).any(-1)
  fold = jax.vmap(jax.random.fold_in, (0, None))
  orders = jax.random.wrap_key_data(jnp.asarray(words), impl=jax.random.key_impl(states.order))
  other = mesh.fetch(jax.random.key_data(fold(orders, ROLLED + np.uint32(rollbacks))))
  chosen = jnp.asarray(np.where(moved[:, None], other, words))
  order = jax.random.wrap_key_data(chosen, impl=jax.random.key_impl(states.order))
  order = mesh.place(order, sharding)
  return at, carry | {'states': states._replace(order=order), 'rollbacks': rollbacks}


def describe(error: NonFinite, feed: Feed, orders, back, folder: str) -> None:
  """Write what is known of a non-finite loss into a file, and name the file in the error."""
  if not folder:
    return
  path = pathlib.Path(folder) / BAD_STEP
  content = {
    'stage': error.stage,
    'network': error.network,
    'step': error.step,
    'last_good_step': error.step - 1,
    'last_checkpoint': back[0] if back else None,
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
