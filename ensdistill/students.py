"""Student networks: modules that hold M members. Outputs are always [B, M, O], float32."""

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
  """A module and a description of its members.

  `module.apply(variables, x, train, mutable=['batch_stats'], rngs={'dropout': key})` returns
  outputs [B, M, O]. A network without batch norm has no 'batch_stats' collection.
  """

  kind: str
  module: nn.Module
  size: int
  own: frozenset[str] = frozenset()  # names in the paths of leaves with a member axis
  plain: 'Student | None' = None  # the single network for averaged members

  def freeze(self, variables) -> Members:
    """Return the members at their running statistics; an index selects the members to compute."""
    # A traced index cannot index NumPy arrays, and vmap fails on them under a custom gradient.
    variables = jax.tree.map(jnp.asarray, variables)

    def outputs(x, index=None):
      if index is None or not self.own:
        return self.module.apply(variables, x)

      def select(path, leaf):
        return leaf[index] if self.own & {k.key for k in path} else leaf

      chosen = jax.tree_util.tree_map_with_path(select, variables)
      # Only the modules of students with several members have this field.
      module = self.module.clone(members=len(index))
      return module.apply(chosen, x)

    return Members(self.size, outputs)

  def group(self, path: tuple[str, ...]) -> str:
    """Return 'factors' for the rank-one factors of a batch ensemble, else 'shared'."""
    return 'factors' if self.plain and path[-1] in layers.FACTORS else 'shared'

  def views(self, variables) -> dict[str, tuple['Student', Any]]:
    """Return by name the networks that these variables give: the student, and its average."""
    views: dict[str, tuple[Student, Any]] = {'student': (self, variables)}
    if self.plain:
      views['student-averaged'] = (self.plain, average(variables))
    return views


class Single(nn.Module):
  """One network, with a member axis of size 1."""

  backbone: Backbone
  outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    x = self.backbone.normalise(x)
    return self.backbone.run(x, train, self.backbone.stages, self.outputs)[:, None]


# Scale of the single log-variance parameter. One parameter has to move as far as the output of many
# weights, so it needs larger steps.
VARIANCE_RATE = 4.0


class OneVariance(nn.Module):
  """One regressor with one log-variance per target, the same for all inputs."""

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
  """M members whose weights differ by rank-one factors. Batch norm is over all members."""

  backbone: Backbone
  outputs: int
  members: int
  factor_std: float  # r and s start as normal(1, factor_std^2)
  bias: str

  @nn.compact
  def __call__(self, x, train=False):
    own: dict[str, Any] = {
      'members': self.members,
      'factor_init': initial.Normal(1.0, self.factor_std),
      'bias': self.bias,
    }
    return self.backbone.run(
      self.backbone.normalise(x)[:, None],
      train,
      self.backbone.stages,
      self.outputs,
      conv=functools.partial(layers.BatchEnsembleConv, **own),
      dense=functools.partial(layers.BatchEnsembleDense, **own),
    )


class Head(nn.Module):
  """The last stages of a backbone and its dense layer, for one member."""

  backbone: Backbone
  outputs: int
  stages: int
  train: bool

  @nn.compact
  def __call__(self, x):
    cut = len(self.backbone.stages) - self.stages
    return self.backbone.run(x, self.train, self.backbone.stages[cut:], self.outputs)


class MultiHead(nn.Module):
  """One body and M heads (Tran et al., 2020).

  A head is the last `head_stages` stages and a dense layer.
  """

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
  del members  # always one network
  module = names.lookup('variance', variance, {'input': Single, 'scalar': OneVariance})
  return Student('single', module(backbone, outputs), 1)


def _multi_head(backbone, outputs, members, *, head_stages=1):
  if not 0 <= head_stages <= len(backbone.stages):
    raise ValueError(
      f'head_stages must be from 0 (only the dense layer) to {len(backbone.stages)} (all stages), '
      f'not {head_stages}'
    )
  if backbone.whole and head_stages:
    raise ValueError(
      f'student.head_stages={head_stages}: a network that is one Flax module cannot be cut; set '
      'student.head_stages=0, or return a list of stages'
    )
  module = MultiHead(backbone, outputs, members, head_stages)
  return Student('multi_head', module, members, own=frozenset({'heads'}))


def _batch_ensemble(backbone, outputs, members, *, factors='ones', factor_std=0.5, bias='shared'):
  std = names.lookup('factors', factors, {'ones': 0.0, 'normal': factor_std})
  names.check('bias', bias, layers.BIASES)
  if backbone.whole:
    raise ValueError(
      "student.kind='batch_ensemble' replaces the layers of its network, but a Flax module has "
      "layers of its own: return a list of stages, or set student.kind='single' or 'multi_head'"
    )
  module = BatchEnsemble(backbone, outputs, members, std, bias)
  return Student(
    'batch_ensemble',
    module,
    members,
    own=frozenset(layers.MEMBER_LEAVES),
    plain=_single(backbone, outputs, 1),
  )


STUDENTS = names.Registry(
  'student',
  {'single': _single, 'multi_head': _multi_head, 'batch_ensemble': _batch_ensemble},
)

PACKAGE = frozenset(STUDENTS)


def make(kind: str, backbone: Backbone, outputs: int, *, members: int = 1, **settings) -> Student:
  """Return the student `kind`, with `outputs` outputs per member; a single student has one member.

  Settings and their defaults:
    single: variance='input' (outputs of the network) or 'scalar' (one per target; regression)
    multi_head: head_stages=1 (0 = only the dense layer)
    batch_ensemble: factors='ones' or 'normal' (mean 1, standard deviation factor_std=0.5),
      bias='shared' (multiplied by s) or 'member'
  """
  student_of = names.lookup('student', kind, STUDENTS)
  known = inspect.signature(student_of).parameters.values()
  names.check_settings(kind, settings, [p.name for p in known if p.kind == p.KEYWORD_ONLY])
  if members < 1:
    raise ValueError(f'a student must have at least one member, not {members}')
  return names.build('student', kind, Student, student_of, backbone, outputs, members, **settings)


def average(variables, weights_M=None):
  """Return the variables of the plain network that has a batch ensemble's averaged factors.

  W <- W * (mean r) (mean s)^T. A shared bias becomes mean(s) * b; biases of members are averaged.
  The plain network equals the batch ensemble whose r, s and b are set to their means. The means are
  sum_m weights_m r_m (s, b) with weights that sum to one; None: equal weights.
  """

  def mean(leaf):
    return leaf.mean(0) if weights_M is None else jnp.tensordot(weights_M, leaf, 1)

  def merge(tree):
    if not isinstance(tree, Mapping):
      return tree
    if 'r' not in tree:
      return {name: merge(value) for name, value in tree.items()}
    r, s, kernel = mean(tree['r']), mean(tree['s']), tree['kernel']
    scale = jnp.outer(r, s)
    plain = {'kernel': kernel * scale.reshape((1,) * (kernel.ndim - 2) + scale.shape)}
    if 'bias' in tree:
      plain['bias'] = tree['bias'] * s
    if 'b' in tree:
      plain['bias'] = mean(tree['b'])
    return plain

  return {**variables, 'params': merge(variables['params'])}


def widen(variables, members: int):
  """Return a multi-head network's variables with its one head copied `members` times."""

  def copy(leaf):
    if leaf.shape[0] != 1:
      raise ValueError(
        f'only a network with one head can be widened, but this one has {leaf.shape[0]}'
      )
    return jnp.repeat(leaf, members, 0)

  return {
    collection: {
      name: jax.tree.map(copy, tree) if name == 'heads' else tree for name, tree in trees.items()
    }
    for collection, trees in variables.items()
  }
