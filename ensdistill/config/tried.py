"""Check custom parts on shapes, so that their errors show before the teacher trains.

Nothing is computed: a batch of shapes passes through the student, the perturbation and the losses.
"""

import pathlib
import traceback
from collections.abc import Callable
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp

from ensdistill import messages, plugins
from ensdistill.config import imported
from ensdistill.members import Members
from ensdistill.method import Method

_B = 2  # examples of the batch


def check(plan) -> None:
  """Refuse custom parts that fail, or that return something else than their kind does."""
  wanted = imported.parts_of(plan.config)
  own = {part for plugin in imported.used(plan.config) for part in plugin.parts & wanted}
  for phase in plan.phases if own else ():
    _check_method(phase.method, plan, {kind: name for kind, name in own})


def _check_method(method: Method, plan, own: dict[str, str]) -> None:
  """Try one method; `own` are the names of the custom parts by their kind."""
  x = jax.ShapeDtypeStruct((_B, *plan.dataset.shape), jnp.float32)
  key = jax.eval_shape(jax.random.key, 0)
  width = method.family.width(plan.dataset.targets)
  if 'perturbation' in own:
    apply = f'perturbation {own["perturbation"]!r}'
    found = _tried(apply, _perturbed(method, plan.config.teacher.members, width), key, x)
    _expect(apply, 'inputs', found, x.shape)
  if {'network', 'student', 'objective'} & own.keys():
    outputs = _outputs(method, plan, own, key, x)
    if 'objective' in own and method.objective is plan.parts.objective:
      _check_objective(method, plan, f'objective {own["objective"]!r}', outputs)


def _check_objective(method: Method, plan, what: str, outputs) -> None:
  """Try the losses of a custom objective on the student's outputs."""
  width = method.family.width(plan.dataset.targets)
  if method.objective.loss:
    teacher = jax.ShapeDtypeStruct((_B, plan.config.teacher.members, width), jnp.float32)
    result = _tried(what, _loss(method), outputs, teacher)
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
      raise ValueError(
        f'{what}: its loss returns {_shown(result)}: return the loss of each example and a dict of '
        'terms to log, such as `return loss_B, {}`'
      )
    _expect(what, 'a loss', result[0], (_B,))
  if method.label_weight:
    targets = (_B,) if method.family.has_classes else (_B, plan.dataset.targets)
    kind = jnp.int32 if method.family.has_classes else jnp.float32
    labels = jax.ShapeDtypeStruct(targets, kind)
    result = _tried(what, _label_loss(method), outputs, labels)
    _expect(what, 'a loss of labels', result, (_B,))


def _outputs(method: Method, plan, own: dict[str, str], key, x):
  """Return the shape of the student's outputs, checked if the student is a custom one."""
  what = f'student {own.get("student", plan.config.student.kind)!r}'
  if 'network' in own and 'student' not in own:
    what = f'network {own["network"]!r} in {what}'
  width = method.objective.width(method.family, plan.dataset.targets)

  def outputs(key, x):
    module = method.student.module
    variables = module.init({'params': key, 'dropout': key}, x, False)
    return module.apply(variables, x, True, mutable=['batch_stats'], rngs={'dropout': key})[0]

  def one_member(key, x):
    variables = method.student.module.init({'params': key, 'dropout': key}, x, False)
    return method.student.freeze(variables).outputs(x, jnp.arange(1))

  if 'student' in own and not hasattr(method.student.module, 'backbone'):
    raise ValueError(f'{what}: its module has no field backbone: `backbone: nets.Backbone`')
  found = _tried(what, outputs, key, x)
  if own and method.student.own:
    _tried(f'one member of {what}', one_member, key, x)
  if 'student' in own:
    _expect(what, 'outputs', found, (_B, method.student.size, width))
    if jnp.promote_types(found.dtype, jnp.float32) != found.dtype:
      raise ValueError(f'{what} returns outputs of {found.dtype}: add .astype(jnp.float32)')
  return found


def _perturbed(method: Method, members: int, width: int) -> Callable:
  def network(size: int, width: int) -> Members:
    def outputs(x, index=None):
      count = size if index is None else len(index)
      return jnp.zeros((len(x), count, width)) + x.reshape(len(x), -1).sum(1)[:, None, None]

    return Members(size, outputs)

  def apply(key, x):
    teacher, student = network(members, width), network(method.student.size, width)
    assert method.perturbation
    return method.perturbation.apply(key, x, teacher, student, method.family, method.space)

  return apply


def _loss(method: Method) -> Callable:
  def loss(outputs, teacher_outputs):
    values = method.objective.schedule(0.0)
    assert method.objective.loss
    return method.objective.loss(method.family, outputs, teacher_outputs, **values)

  return loss


def _label_loss(method: Method) -> Callable:
  def loss(outputs, labels):
    return method.objective.label_loss(method.family, outputs, labels)

  return loss


def _tried(what: str, function: Callable, *arguments) -> Any:
  """Return the shapes that a function returns for shapes; an error names the user's line."""
  try:
    return jax.eval_shape(function, *arguments)
  except Exception as error:
    shapes = ' and '.join(str(list(a.shape)) for a in arguments if a.shape)
    rename = '; a BatchEnsemble has parameters b, r and s: give yours other names'
    raise ValueError(
      f'{what} failed on shapes {shapes}: {messages.described(error)}{_line(error)}'
      f'{rename if isinstance(error, flax.errors.ScopeParamShapeError) else ""}'
    ) from error


def _line(error: BaseException) -> str:
  """Return the last line of an imported file that an error passed through."""
  files = {plugin.place.partition('.py:')[0].removesuffix('.py') for plugin in plugins.loaded()}
  known = {f'{pathlib.Path(file).expanduser().resolve()}.py' for file in files}
  lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in known]
  return f' ({pathlib.Path(lines[-1].filename).name}, line {lines[-1].lineno})' if lines else ''


def _expect(what: str, kind: str, found, shape: tuple[int, ...]) -> None:
  """Refuse something else than one array of this shape."""
  if getattr(found, 'shape', None) != shape:
    letters = {'inputs': 'those of x', 'outputs': '[B, M, O]'}.get(
      kind, '[B], one for each example'
    )
    raise ValueError(
      f'{what} returns {kind} of {_shown(found)} for {_B} examples: the shape must be '
      f'{list(shape)}, {letters}'
    )


def _shown(found) -> str:
  if hasattr(found, 'shape'):
    return f'shape {list(found.shape)}'
  return f'type {type(found).__name__}'
