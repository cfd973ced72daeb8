"""The examples of a step: a pure function of (key, step), without sorting, tables or state.

Every epoch has its own pseudo-random permutation of the examples. It is computed only at the
batch's positions, so resuming needs only the step. `indices` runs on the device, `indices_on_host`
serves streams from the host; both return the same numbers.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_ROUNDS = 8


def steps_per_epoch(size: int, batch: int) -> int:
  """Return the number of batches of an epoch; the last partial batch is dropped."""
  if not 0 < batch <= size:
    raise ValueError(
      f'a batch of {batch} does not fit {size} training examples: set batch_size to 1 to {size}'
    )
  return size // batch


def indices(key, step, *, size: int, batch: int):
  """Return the examples of one step, int32 [batch]; no example comes twice in an epoch."""
  steps = steps_per_epoch(size, batch)
  step = jnp.asarray(step, jnp.int32)
  position = (step % steps) * batch + jnp.arange(batch, dtype=jnp.int32)
  return permute(jax.random.fold_in(key, step // steps), position, size)


def permute(key, position, size: int):
  """Return the images of positions under a pseudo-random permutation of range(size).

  A Feistel network over Z_a x Z_b with a b >= size (Black and Rogaway, 'Ciphers with arbitrary
  finite domains', 2002): one half is shifted by a keyed hash of the other. It permutes all a b
  numbers. A number outside range(size) passes through the network again until it falls inside
  (cycle walking), which is rare because a b - size < a.
  """
  keys = _round_keys(key)
  return _walk(keys, jnp.asarray(position, jnp.uint32), *_domain(size), size).astype(jnp.int32)


def round_keys(keys, epochs: int) -> np.ndarray:
  """Return the round keys of every key and epoch, uint32 [keys, epochs, rounds]."""

  def of_epoch(key, epoch):
    return _round_keys(jax.random.fold_in(key, epoch))

  drawn = jax.vmap(jax.vmap(of_epoch, (None, 0)), (0, None))(keys, jnp.arange(epochs))
  return np.asarray(drawn)


def indices_on_host(rounds_ER: np.ndarray, step: int, *, size: int, batch: int) -> np.ndarray:
  """Return `indices` for the key of these round keys, without a device."""
  epoch, place = divmod(int(step), steps_per_epoch(size, batch))
  a, b = _domain(size)
  index = _once(rounds_ER[epoch], np.arange(batch, dtype=np.uint32) + place * batch, a, b)
  while (outside := index >= size).any():
    index[outside] = _once(rounds_ER[epoch], index[outside], a, b)
  return index.astype(np.int32)


def _round_keys(key):
  return jax.random.bits(key, (_ROUNDS,), jnp.uint32)


def _domain(size: int) -> tuple[int, int]:
  """Return a and b of the domain that contains range(size)."""
  if not 0 < size < 2**31:
    raise ValueError(f'cannot permute {size} examples: choose 1 to 2^31 - 1')
  a = math.isqrt(size - 1) + 1
  return a, -(-size // a)


def _walk(keys, position, a, b, size):
  """Pass through the network until all numbers fall inside range(size)."""

  def any_outside(index):
    return (index >= size).any()

  def pass_again(index):
    return jnp.where(index >= size, _once(keys, index, a, b), index)

  # The first pass is before the loop: under shard_map the loop's carry must vary over the same
  # devices as the key from the start.
  return lax.while_loop(any_outside, pass_again, _once(keys, position, a, b))


def _once(keys, index, a, b):
  """Pass through the network once, in JAX or NumPy; uint32 arithmetic wraps around in both."""
  left, right = index % a, index // a
  for i in range(0, _ROUNDS, 2):
    left = (left + _hash(right, keys[i]) % a) % a
    right = (right + _hash(left, keys[i + 1]) % b) % b
  return right * a + left


def _hash(x, key):
  """Return 32 well-mixed bits of x under a key: MurmurHash3's finaliser."""
  x = (x ^ key) * np.uint32(0x9E3779B1)
  x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
  return x ^ (x >> 16) ^ key
