"""Custom networks: a function that returns a list of stages, or a Flax module.

The module returns features: [B, C], or images [B, H, W, C], which are averaged. The student adds
the last dense layer, so a module ends before its own.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ensdistill import messages, names
from ensdistill.nets import stack

_MODES = ('train', 'training')  # arguments that say that a network trains
_INVERSE = ('deterministic', 'use_running_average')  # and that it does not
_COLLECTIONS = {'params', 'batch_stats'}
_RETURN = (
  "return a list of stages, ('name', functools.partial(Stage, ...)), a stack.Network, or a "
  'flax.linen.Module'
)


class Whole(nn.Module):
  """A Flax module as the one stage of a network; its layers are its own."""

  layers: stack.Layers
  module: nn.Module

  @nn.compact
  def __call__(self, x):
    return self.module(x, **_mode(self.module, self.layers.train))


def _mode(module: nn.Module, train: bool) -> dict[str, bool]:
  """Return how a module is told that it trains: the first argument of that kind that it has."""
  kind: Any = getattr(module, 'nnx_class', type(module))  # of nnx.bridge.to_linen
  known = inspect.signature(kind.__call__).parameters
  modes = dict.fromkeys(_MODES, train) | dict.fromkeys(_INVERSE, not train)
  return next(({name: value} for name, value in modes.items() if name in known), {})


def builder(made: Any) -> Callable:
  """Return what a user names as a function (shape, **settings): a Flax class has its fields."""
  if not (isinstance(made, type) and issubclass(made, nn.Module)):
    return made

  def build(shape, **settings):
    del shape
    return made(**settings)

  hints = typing.get_type_hints(made)
  fields = [f for f in dataclasses.fields(made) if f.init and f.name not in ('parent', 'name')]
  own = [
    inspect.Parameter(
      field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=field.type
    )
    for field in fields
  ]
  shape = inspect.Parameter('shape', inspect.Parameter.POSITIONAL_OR_KEYWORD)
  build.__signature__ = inspect.Signature([shape, *own])  # type: ignore[attr-defined]
  build.__annotations__ = {field.name: hints[field.name] for field in fields}
  build.__module__, build.__wrapped__ = made.__module__, made  # type: ignore[attr-defined]
  return build


def _default(field: dataclasses.Field) -> Any:
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def network(name: str, returned: Any, shape: tuple[int, ...]) -> stack.Network:
  """Return what a network's function returned as a Network, whose pool is None if not stated."""
  images = len(shape) == 3
  if isinstance(returned, stack.Network):
    return returned
  if isinstance(returned, tuple) and returned and _is_stages(returned[0]):
    return stack.Network(*returned)
  if isinstance(returned, nn.Module):
    stage = functools.partial(Whole, module=returned)
    return stack.Network((('module', stage),), pool=None, convolutional=images, whole=True)
  if not isinstance(returned, list | tuple):
    raise ValueError(f'network {name!r} returned a {type(returned).__name__}: {_RETURN}')
  if not returned:
    raise ValueError(f'network {name!r} returned no stage: {_RETURN}')
  for number, stage in enumerate(returned):
    pair = isinstance(stage, list | tuple) and len(stage) == 2
    if not pair or not isinstance(stage[0], str) or not callable(stage[1]):
      raise ValueError(
        f'stage {number} of network {name!r} is {names.short_repr(stage)}: {_RETURN}'
      )
  labels = [stage[0] for stage in returned]
  double = next((label for label in labels if labels.count(label) > 1), None)
  if double is not None:
    raise ValueError(f'network {name!r} has two stages named {double!r}: rename one of them')
  stages = tuple((label, stage) for label, stage in returned)
  return stack.Network(stages, pool=None, convolutional=images)


def _is_stages(thing) -> bool:
  """Return whether this is a sequence of named stages, and not one of them."""
  return isinstance(thing, list | tuple) and bool(thing) and isinstance(thing[0], list | tuple)


class _Features(nn.Module):
  """The output of all stages, before the pool."""

  backbone: stack.Backbone

  @nn.compact
  def __call__(self, x, train=False):
    return self.backbone.run(self.backbone.normalise(x), train, self.backbone.stages)


def finished(name: str, backbone: stack.Backbone) -> stack.Backbone:
  """Return the backbone with its pool, after one pass of shapes; wrong stages are refused."""
  if backbone.whole:
    _check_whole(name, backbone)
  module, x = _Features(backbone), jax.ShapeDtypeStruct((2, *backbone.shape), jnp.float32)
  key = jax.eval_shape(jax.random.key, 0)
  try:
    variables = jax.eval_shape(module.init, {'params': key, 'dropout': key}, x)
    features, _ = jax.eval_shape(functools.partial(_train, module), variables, key, x)
  except Exception as error:
    raise ValueError(
      f'network {name!r} failed on inputs of shape {tuple(backbone.shape)}: '
      f'{messages.described(error)}'
    ) from error
  others = set(variables) - _COLLECTIONS
  if others:
    raise ValueError(
      f'network {name!r} keeps variables in {sorted(others)}: only params and batch_stats are '
      'trained and stored'
    )
  if backbone.pool is None:
    pool = stack.global_mean if getattr(features, 'ndim', 0) == 4 else stack.identity
    backbone = dataclasses.replace(backbone, pool=pool)
  pooled = jax.eval_shape(backbone.pool, features) if hasattr(features, 'ndim') else features
  shape = getattr(pooled, 'shape', None)
  if shape is None or len(shape) != 2 or shape[0] != 2:
    got = f'shape {shape}' if shape else f'a {type(features).__name__}'
    raise ValueError(
      f'network {name!r} ends with {got} for 2 inputs: end with features [B, C], or with images '
      '[B, H, W, C], which are averaged'
    )
  return backbone


def _train(module, variables, key, x):
  rngs = {'dropout': key}
  return module.apply(variables, x, True, mutable=['batch_stats'], rngs=rngs)


def _check_whole(name: str, backbone: stack.Backbone) -> None:
  """Refuse settings that a module with layers of its own would ignore."""
  if backbone.dtype != jnp.float32:
    raise ValueError(
      f"network.dtype has no effect on {name!r}, which has layers of its own: set its module's "
      "dtype, and network.dtype='float32'"
    )
  if backbone.init is not None:
    raise ValueError(
      f'network.init and network.init_gain have no effect on {name!r}, which has layers of its '
      'own: unset them'
    )
