"""Student networks: how one module holds M members. Outputs are always [B, M, O], float32."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ensdistill import names
from ensdistill.members import Members
from ensdistill.nets import Backbone, initial, layers


@dataclasses.dataclass(frozen=True)
class Student:
  """A module and what its members are.

  `module.apply(variables, x, train, mutable=['batch_stats'], rngs={'dropout': key})` gives outputs
  [B, M, O]; a network without batch norm has no 'batch_stats' collection.
  """

  kind: str
  module: nn.Module
  size: int
  own: frozenset[str] = frozenset()  # a leaf with one of these in its path leads with members
  plain: 'Student | None' = None  # the single network that the average of the members is

  def freeze(self, variables) -> Members:
    """The network at its running statistics; an index computes those members alone."""
    # Numpy arrays cannot be indexed by a traced index, nor vmapped into a custom gradient.
    variables = jax.tree.map(jnp.asarray, variables)

    def outputs(x, index=None):
      if index is None or not self.own:
        return self.module.apply(variables, x)
      chosen = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf[index] if self.own & {k.key for k in path} else leaf, variables
      )
      return self.module.clone(members=len(index)).apply(chosen, x)

    return Members(self.size, outputs)

  def group(self, path: tuple[str, ...]) -> str:
    """'factors' for the rank-one factors of a batch ensemble, 'shared' for all else."""
    return 'factors' if self.plain and path[-1] in layers.FACTORS else 'shared'

  def views(self, variables) -> dict[str, tuple['Student', Any]]:
    """The networks that these variables serve as, by name."""
    views = {'student': (self, variables)}
    if self.plain:
      views['student-averaged'] = (self.plain, average(variables))
    return views


class Single(nn.Module):
  """One network, as one member."""

  backbone: Backbone
  outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    x = self.backbone.normalise(x)
    return self.backbone.run(x, train, self.backbone.stages, self.outputs)[:, None]


# How fast a lone log-variance moves: it has as far to go as one that many weights move.
VARIANCE_RATE = 4.0


class OneVariance(nn.Module):
  """One regressor, as one member, with one log-variance a target, the same for all inputs."""

  backbone: Backbone
  outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    x = self.backbone.normalise(x)
    mean = self.backbone.run(x, train, self.backbone.stages, self.outputs // 2)
    log_var = self.param('log_var', nn.initializers.zeros, (self.outputs // 2,), jnp.float32)
    log_var = jnp.broadcast_to(VARIANCE_RATE * log_var, mean.shape)
    return jnp.concatenate([mean, log_var], -1)[:, None]


class BatchEnsemble(nn.Module):
  """M members whose weights differ by rank-one factors; batch norm is over all of them."""

  backbone: Backbone
  outputs: int
  members: int
  factor_std: float  # r and s start as normal(1, factor_std)
  bias: str

  @nn.compact
  def __call__(self, x, train=False):
    own = {'members': self.members, 'factor_init': initial.Normal(1.0, self.factor_std), 'bias': self.bias}
    return self.backbone.run(
      self.backbone.normalise(x)[:, None],
      train,
      self.backbone.stages,
      self.outputs,
      conv=functools.partial(layers.BatchEnsembleConv, **own),
      dense=functools.partial(layers.BatchEnsembleDense, **own),
    )


class Head(nn.Module):
  """The last stages of a backbone and its dense layer."""

  backbone: Backbone
  outputs: int
  stages: int
  train: bool

  @nn.compact
  def __call__(self, x):
    cut = len(self.backbone.stages) - self.stages
    return self.backbone.run(x, self.train, self.backbone.stages[cut:], self.outputs)


class MultiHead(nn.Module):
  """One body, M heads (Tran et al., 2020); a head is the last `head_stages` stages and a dense."""

  backbone: Backbone
  outputs: int
  members: int
  head_stages: int

  @nn.compact
  def __call__(self, x, train=False):
    cut = len(self.backbone.stages) - self.head_stages
    x = self.backbone.normalise(x)
    x = self.backbone.run(x, train, self.backbone.stages[:cut])
    heads = nn.vmap(
      Head,
      variable_axes={'params': 0, 'batch_stats': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=None,
      out_axes=1,
      axis_size=self.members,
    )
    return heads(self.backbone, self.outputs, self.head_stages, train, name='heads')(x)


def _single(backbone, outputs, members, *, variance='input'):
  del members  # one network, however many members it learns from
  module = names.lookup('variance', variance, {'input': Single, 'scalar': OneVariance})
  return Student('single', module(backbone, outputs), 1)


def _multi_head(backbone, outputs, members, *, head_stages=1):
  if not 0 <= head_stages <= len(backbone.stages):
    raise ValueError(
      f'head_stages is 0 (a dense layer) to {len(backbone.stages)} (every stage), not {head_stages}'
    )
  module = MultiHead(backbone, outputs, members, head_stages)
  return Student('multi_head', module, members, own=frozenset({'heads'}))


def _batch_ensemble(backbone, outputs, members, *, factors='ones', factor_std=0.5, bias='shared'):
  std = names.lookup('factors', factors, {'ones': 0.0, 'normal': factor_std})
  names.lookup('bias', bias, dict.fromkeys(layers.BIASES))
  module = BatchEnsemble(backbone, outputs, members, std, bias)
  return Student(
    'batch_ensemble',
    module,
    members,
    own=frozenset(layers.MEMBER_LEAVES),
    plain=_single(backbone, outputs, 1),
  )


STUDENTS = {'single': _single, 'multi_head': _multi_head, 'batch_ensemble': _batch_ensemble}


def make(kind: str, backbone: Backbone, outputs: int, *, members: int = 1, **settings) -> Student:
  """The student `kind` with this many outputs a member; a single student is always one member.

  Settings: single: variance='input' (an output) or 'scalar' (one number a target; regression);
  multi_head: head_stages=1 (0 = the dense layer alone); batch_ensemble: factors='ones' or 'normal'
  (mean 1, standard deviation factor_std=.5), bias='shared' (inside s) or 'member'.
  """
  build = names.lookup('student', kind, STUDENTS)
  known = inspect.signature(build).parameters.values()
  names.settings(kind, settings, [p.name for p in known if p.kind == p.KEYWORD_ONLY])
  if members < 1:
    raise ValueError(f'a student has one member or more, not {members}')
  return build(backbone, outputs, members, **settings)


def average(variables):
  """A batch ensemble's variables -> those of the plain network with the averaged factors.

  W <- W * (mean r) (mean s)^T; a shared bias lies inside s, b <- mean(s) * b; biases of members are
  averaged. The plain network equals the batch ensemble whose r, s and b are set to their means.
  """

  def merge(tree):
    if not isinstance(tree, Mapping):
      return tree
    if 'r' not in tree:
      return {name: merge(value) for name, value in tree.items()}
    r, s, kernel = tree['r'].mean(0), tree['s'].mean(0), tree['kernel']
    scale = jnp.outer(r, s)
    plain = {'kernel': kernel * scale.reshape((1,) * (kernel.ndim - 2) + scale.shape)}
    if 'bias' in tree:
      plain['bias'] = tree['bias'] * s
    if 'b' in tree:
      plain['bias'] = tree['b'].mean(0)
    return plain

  return {**variables, 'params': merge(variables['params'])}


def widen(variables, members: int):
  """Variables of a multi-head network with one head -> with M copies of that head."""

  def copy(leaf):
    if leaf.shape[0] != 1:
      raise ValueError(f'only a network with one head is widened, this one has {leaf.shape[0]}')
    return jnp.repeat(leaf, members, 0)

  return {
    collection: {
      name: jax.tree.map(copy, tree) if name == 'heads' else tree for name, tree in trees.items()
    }
    for collection, trees in variables.items()
  }
