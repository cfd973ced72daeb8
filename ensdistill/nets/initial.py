"""Initial parameters, drawn on the host.

`module.init` draws every kernel by a random call of its own, and XLA takes about two seconds to
compile each for a CPU. Drawn by numpy the same distributions cost milliseconds, on every back end
the same numbers; whatever is no kernel and no factor starts as `module.init` has it.
"""

import dataclasses
import math

import jax
import numpy as np

# Layers that no ReLU, which halves what comes, follows: the last dense one, a transformer's.
LINEAR = ('head', 'qkv', 'out', 'shrink')


def variables(module, keys, x) -> dict:
  """Stacked variables [S, ...] of a module for inputs like x, one a key, as numpy arrays.

  Kernels are He-normal, normal(0, 2 / fan in); those of LINEAR layers are normal(0, 1 / fan in).
  BatchEnsemble's factors are normal(1, module.factor_std^2).
  """
  init = lambda: module.init(jax.random.key(0), x, False)
  spread = jax.tree_util.tree_map_with_path(
    lambda path, leaf: _spread([part.key for part in path], leaf.shape, module),
    jax.eval_shape(init),
  )
  undrawn = jax.tree.map(lambda s: s is None, spread, is_leaf=lambda s: s is None)
  given = jax.jit(lambda: jax.tree.map(lambda leaf, own: own if leaf else 0.0, undrawn, init()))()

  def one(key):
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    random = np.random.default_rng(seed)

    def draw(leaf, spread):
      if spread is None:
        return np.asarray(leaf)
      noise = random.standard_normal(spread.shape, np.float32)
      return np.float32(spread.mean) + np.float32(spread.std) * noise

    return jax.tree.map(draw, given, spread)

  return jax.tree.map(lambda *leaves: np.stack(leaves), *[one(key) for key in keys])


@dataclasses.dataclass(frozen=True)
class _Normal:
  shape: tuple[int, ...]
  mean: float
  std: float


def _spread(names, shape, module) -> _Normal | None:
  """The distribution of a leaf, or None where `module.init` has its value."""
  if names[-1] == 'kernel':
    # The heads of a multi-head network lie behind one more axis in front.
    fan_in = math.prod(shape[1 if 'heads' in names else 0 : -1])
    return _Normal(shape, 0.0, math.sqrt((1 if names[-2] in LINEAR else 2) / fan_in))
  if names[-1] in ('r', 's') and hasattr(module, 'factor_std'):
    return _Normal(shape, 1.0, module.factor_std)
  return None
