"""Backbones by name. A new backbone is a file with its stages and a line in NETWORKS."""

import dataclasses
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ensdistill import names
from ensdistill.nets import custom, initial, layers, mlp, resnet, stack, vgg, vit, wide_resnet

__all__ = [
  'COMMON',
  'DTYPES',
  'NETWORKS',
  'PACKAGE',
  'Backbone',
  'build',
  'initial',
  'is_tpu',
  'with_form',
]


class _Networks(names.Registry):
  """Backbones by name; the fields of a Flax class are its settings."""

  def __setitem__(self, name: str, part) -> None:
    super().__setitem__(name, custom.builder(part))


# (shape, **settings) -> stack.Network; custom ones also return a list of stages, or a Flax module
NETWORKS = _Networks(
  'network',
  {
    'mlp': mlp.mlp,
    'resnet': resnet.resnet,
    'wide_resnet': wide_resnet.wide_resnet,
    'vgg': vgg.vgg,
    'imagenet_resnet': resnet.imagenet_resnet,
    'vit': vit.vit,
  },
)
PACKAGE = frozenset(NETWORKS)  # a custom network is checked by a pass of shapes
# What all networks have: (**settings) -> a field of stack.Backbone by the same name
COMMON: dict[str, Callable[..., Any]] = {'init': initial.kernels, 'remat': stack.rematerialised}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}
Backbone = stack.Backbone


def build(name, *, shape, mean, std, dtype='float32', form='auto', **settings) -> Backbone:
  """Return the backbone `name` for inputs of this shape; it normalises them by mean and std.

  Settings and their defaults:
    mlp: hidden=(64, 64)
    resnet: depth=20
    wide_resnet: depth=28, width=1
    vgg: depth=16, channels=64, head='flat' or 'pooled'
    imagenet_resnet: depth=50, channels=64
    vit: patch=4, depth=6, channels=192, heads=3
    all: dropout=0
    all: init=None, 'fan_in' or 'fan_out', and init_gain=None; see initial.kernels
    all: remat=False, see stack.rematerialised
    all but mlp: norm='batch', 'group' or 'layer' (default: 'layer' for vit, 'batch' for the others)
  """
  network_of = names.lookup('network', name, NETWORKS)
  names.check('form', form, layers.FORMS)
  common = _common(settings)
  known = [p for p in inspect.signature(network_of).parameters if p != 'shape']
  names.check_settings(
    name, settings, [*known, *itertools.chain(*map(_settings_of, COMMON.values()))]
  )
  shape, mean, std = tuple(shape), tuple(mean), tuple(std)
  for label, values in ('mean', mean), ('std', std):
    if len(values) not in (1, shape[-1]):
      raise ValueError(
        f'{label} has {len(values)} values, but inputs of shape {shape} have {shape[-1]} channels: '
        f'give 1 or {shape[-1]} values'
      )
  if min(std) <= 0:
    raise ValueError(f'every std must be positive, not {std}')
  rate = settings.get('dropout', 0.0)
  if not 0 <= rate < 1:
    raise ValueError(f'dropout must be a rate in [0, 1), not {rate}')
  network = custom.network(name, network_of(shape, **settings), shape)
  names.check('norm', network.norm, layers.NORMS)
  dtype = names.lookup('dtype', dtype, DTYPES)
  own = network._asdict()
  found = Backbone(shape=shape, mean=mean, std=std, dtype=dtype, form=form, **own, **common)
  return found if name in PACKAGE else custom.finished(name, found)


def _common(settings) -> dict[str, Any]:
  """Take what all networks have out of `settings`; return it as fields of a Backbone."""
  return {
    field: builder(**{p: settings.pop(p) for p in _settings_of(builder) if p in settings})
    for field, builder in COMMON.items()
  }


def _settings_of(builder) -> list[str]:
  return list(inspect.signature(builder).parameters)


def with_form(module, form: str):
  """Return a copy of the network whose layers compute in another form (see layers.FORMS)."""
  return module.clone(backbone=dataclasses.replace(module.backbone, form=form))


def is_tpu(module) -> bool:
  """Return whether the network computes in the form for TPUs (see layers.FORMS)."""
  return layers.is_tpu(module.backbone.form)
