"""Initial weights: the distributions that layers carry, and variables drawn from them on the host.

`module.init` draws each kernel by a separate random call, and XLA compiles each call for about two
seconds on a CPU. So `variables` asks the layers for their distributions and draws these weights
with numpy. This takes milliseconds and gives the same numbers on every back end. All other leaves
(scales, biases, statistics, weights of any other Flax initialiser) are computed by `module.init`.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import numpy as np

from ensdistill import names


class Distribution:
  """Base class of the normal distributions that `variables` draws on the host.

  An instance is also a Flax initialiser, (key, shape, dtype) -> array, so `module.init` draws from
  the same distribution, with other numbers.
  """

  def moments(self, shape) -> tuple[float, float]:
    """Return mean and standard deviation for a parameter of this shape."""
    raise NotImplementedError

  def __call__(self, key, shape, dtype=float):
    mean, std = self.moments(shape)
    return mean + std * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Normal(Distribution):
  """normal(mean, std^2), whatever the shape."""

  mean: float
  std: float

  def moments(self, shape):
    return self.mean, self.std


@dataclasses.dataclass(frozen=True)
class FanIn(Distribution):
  """normal(0, gain / fan in), for kernels [..., inputs, outputs]."""

  gain: float

  def moments(self, shape):
    return 0.0, math.sqrt(self.gain / math.prod(shape[:-1]))


@dataclasses.dataclass(frozen=True)
class Fan(Distribution):
  """normal(0, gain^2 / fan in or fan out), for kernels [..., inputs, outputs].

  The fan out of a convolution is its area times its outputs.
  """

  fan: str  # a name in FANS
  gain: float

  def moments(self, shape):
    inputs_or_outputs = shape[-2] if self.fan == 'fan_in' else shape[-1]
    return 0.0, self.gain / math.sqrt(math.prod(shape[:-2]) * inputs_or_outputs)


he_normal = FanIn(2)  # before a ReLU, which halves the second moment
lecun_normal = FanIn(1)  # for linear layers
DEFAULTS = (he_normal, lecun_normal)  # what layers ask for where nothing else is stated
FANS = ('fan_in', 'fan_out')


def kernels(*, init: str | None = None, init_gain: float | None = None) -> Fan | None:
  """Return the distribution of all kernels, or None: each layer then has its own default.

  Args:
    init: 'fan_in' (the default if only the gain is set) or 'fan_out'.
    init_gain: the factor g in the standard deviation g / sqrt(fan); by default sqrt(2) (He et al.,
      2015).
  """
  if init is None and init_gain is None:
    return None
  fan = init or 'fan_in'
  names.check('network.init', fan, FANS)
  gain = math.sqrt(2) if init_gain is None else init_gain
  if not 0 < gain < math.inf:
    raise ValueError(f'network.init_gain={gain} must be positive')
  return Fan(fan, gain)


class Layer(nn.Module):
  """Base class of the layers whose parameters `variables` can draw."""

  def parameter(self, name: str, init, shape, /):
    """Return `param(name, init, shape)`; `variables` draws it if init is a Distribution."""
    return self.param(name, init, shape)


def variables(module, keys, x) -> dict:
  """Return stacked variables [S, ...] for inputs like x, one network per key, as numpy arrays."""

  def init(key):
    return module.init(key, x, False)

  shapes, moments_by_path = _trace(init, keys[0])
  paths_and_shapes, structure = jax.tree_util.tree_flatten_with_path(shapes)
  paths = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in paths_and_shapes]
  moments = [moments_by_path.get(path) for path in paths]

  @jax.jit
  def computed(key):
    leaves = jax.tree.leaves(init(key))
    return [leaf for leaf, drawn in zip(leaves, moments, strict=True) if drawn is None]

  def network(key):
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    random = np.random.default_rng(seed)
    others = iter(computed(key))
    return [
      _draw(random, shape.shape, *drawn) if drawn else np.asarray(next(others))
      for (_, shape), drawn in zip(paths_and_shapes, moments, strict=True)
    ]

  stacked = [np.stack(leaves) for leaves in zip(*map(network, keys), strict=True)]
  return jax.tree.unflatten(structure, stacked)


def _trace(init, key):
  """Return the shapes of init(key), and the moments of the parameters that layers report."""
  moments_by_path: dict[str, tuple[float, float]] = {}

  def report(method, args, kwargs, context):
    if isinstance(context.module, Layer) and context.method_name == 'parameter':
      name, distribution, shape = args
      if isinstance(distribution, Distribution):
        path = '/'.join(('params', *context.module.path, name))
        moments_by_path[path] = distribution.moments(shape)
    return method(*args, **kwargs)

  with nn.intercept_methods(report):
    return jax.eval_shape(init, key), moments_by_path


def _draw(random, shape, mean, std):
  return np.float32(mean) + np.float32(std) * random.standard_normal(shape, np.float32)
