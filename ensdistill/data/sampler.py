"""Which examples a step sees: a pure function of (key, step), with no sort, no table and no state.

Every epoch has its own pseudo-random permutation of the examples, which is computed for the batch's
positions alone, so that resuming needs nothing but the step. On the device `indices` draws it, for
what streams from the host `indices_on_host`; both give the same numbers.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_ROUNDS = 8


def steps_per_epoch(size: int, batch: int) -> int:
  """How many whole batches an epoch has; its incomplete last one is dropped."""
  if not 0 < batch <= size:
    raise ValueError(f'a batch of {batch} does not fit {size} training examples: set 1 to {size}')
  return size // batch


def indices(key, step, *, size: int, batch: int):
  """The examples of one step, int32 [batch]: no example twice within an epoch."""
  steps = steps_per_epoch(size, batch)
  step = jnp.asarray(step, jnp.int32)
  position = (step % steps) * batch + jnp.arange(batch, dtype=jnp.int32)
  return permute(jax.random.fold_in(key, step // steps), position, size)


def permute(key, position, size: int):
  """The images of positions under a pseudo-random permutation of range(size).

  A Feistel network over Z_a x Z_b with a b >= size (generalised as by Black and Rogaway, 'Ciphers
  with arbitrary finite domains', 2002): one half is shifted by a keyed hash of the other. It
  permutes all a b numbers; one that falls outside range(size) is sent through again until it
  falls inside (cycle walking), and a b - size < a makes that rare.
  """
  keys = _round_keys(key)
  return _walk(keys, jnp.asarray(position, jnp.uint32), *_sides(size), size).astype(jnp.int32)


def round_keys(keys, epochs: int) -> np.ndarray:
  """What `indices_on_host` needs of every key and epoch, uint32 [keys, epochs, rounds]."""
  of_epoch = lambda key, epoch: _round_keys(jax.random.fold_in(key, epoch))
  drawn = jax.vmap(jax.vmap(of_epoch, (None, 0)), (0, None))(keys, jnp.arange(epochs))
  return np.asarray(drawn)


def indices_on_host(rounds_ER: np.ndarray, step: int, *, size: int, batch: int) -> np.ndarray:
  """`indices` of the key that these round keys come from, without a device."""
  epoch, place = divmod(int(step), steps_per_epoch(size, batch))
  a, b = _sides(size)
  index = _once(rounds_ER[epoch], np.arange(batch, dtype=np.uint32) + place * batch, a, b)
  while (outside := index >= size).any():
    index[outside] = _once(rounds_ER[epoch], index[outside], a, b)
  return index.astype(np.int32)


def _round_keys(key):
  return jax.random.bits(key, (_ROUNDS,), jnp.uint32)


def _sides(size: int) -> tuple[int, int]:
  """a and b of the smallest domain that holds range(size)."""
  if not 0 < size < 2**31:
    raise ValueError(f'a permutation of {size} examples: 1 to 2^31 - 1 are possible')
  a = math.isqrt(size - 1) + 1
  return a, -(-size // a)


def _walk(keys, position, a, b, size):
  # The first pass stands before the loop, so that under shard_map the loop's carry varies over the
  # same devices as the key from the start.
  outside = lambda index: (index >= size).any()
  again = lambda index: jnp.where(index >= size, _once(keys, index, a, b), index)
  return lax.while_loop(outside, again, _once(keys, position, a, b))


def _once(keys, index, a, b):
  """One pass through the network, in jax or in numpy: uint32 arithmetic wraps around in both."""
  left, right = index % a, index // a
  for i in range(0, _ROUNDS, 2):
    left = (left + _hash(right, keys[i]) % a) % a
    right = (right + _hash(left, keys[i + 1]) % b) % b
  return right * a + left


def _hash(x, key):
  """32 well-mixed bits of x under a key: MurmurHash3's finaliser."""
  x = (x ^ key) * np.uint32(0x9E3779B1)
  x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
  return x ^ (x >> 16) ^ key


def batches(size: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
  """Every example once, in order: indices [S, batch] and a mask that is False for padding.

  Padding repeats the last example, so that it can be computed like any other.
  """
  if size < 1 or batch < 1:
    raise ValueError(f'blocks of {batch} over {size} examples: both must be at least 1')
  index = np.arange(-(-size // batch) * batch, dtype=np.int32).reshape(-1, batch)
  return np.minimum(index, size - 1), index < size
