"""The inference function of a student, which every exported file computes.

It maps raw inputs [B, ...], as the student was trained on them, to a dict of named outputs. The
probabilities are those of `Model.predict`, without the temperature of a calibration.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill.metrics import regression
from ensdistill.predictive import GaussianMixture, Mixture
from ensdistill.storage import safe, seals
from ensdistill.student.model import Model

UNCERTAINTIES = ('total', 'data', 'knowledge')
# All names of outputs, in the order of files.
OUTPUTS = ('probabilities', 'mean', 'variance', *UNCERTAINTIES, 'members')


class Inference(NamedTuple):
  """A function of a batch, its weights, and what it takes."""

  call: Callable  # (variables, x [B, ...]) -> {name: array}
  variables: Any
  shape: tuple[int, ...]  # of one example
  dtype: np.dtype  # of the inputs: uint8 or float32

  def inputs(self, batch) -> jax.ShapeDtypeStruct:
    """Return the type of a batch; its size may be a symbol."""
    return jax.ShapeDtypeStruct((batch, *self.shape), self.dtype)

  def outputs(self) -> dict[str, tuple[int, ...]]:
    """Return the names of the outputs, with the shape for one example."""
    made = jax.eval_shape(self.call, self.variables, self.inputs(1))
    return {name: made[name].shape[1:] for name in OUTPUTS if name in made}

  def closed(self) -> Callable:
    """Return x -> outputs, with the weights inside."""
    variables = jax.tree.map(jnp.asarray, self.variables)

    def call(x):
      return self.call(variables, x)

    return call


def in_float32(model: Model) -> Model:
  """Return the student computing in float32: itself, unless its layers are bfloat16."""
  if model.student.module.backbone.dtype == jnp.float32:
    return model
  return _with_backbone(model, dtype=jnp.float32)


def _with_backbone(model: Model, **changes) -> Model:
  module = model.student.module
  module = module.clone(backbone=dataclasses.replace(module.backbone, **changes))
  return dataclasses.replace(model, student=dataclasses.replace(model.student, module=module))


def of(model: Model) -> Inference:
  """Return the inference function of a student: layers in their plain form, in float32."""
  plain = _with_backbone(model, form='plain', dtype=jnp.float32)
  predictor = plain.predictor(1)
  units = [np.asarray(model.spec[name], np.float32) for name in ('target_mean', 'target_std')]

  def call(variables, x):
    with jax.default_matmul_precision('highest'):
      p = predictor.forward(variables, x)
      return named(model.family, p, *units)

  dtype = np.dtype(np.uint8 if takes_bytes(model.spec) else np.float32)
  return Inference(call, model.variables, tuple(model.spec['shape']), dtype)


def takes_bytes(spec) -> bool:
  """Return whether inputs are uint8: images that were stored so. Tables are always float32."""
  return len(spec['shape']) == 3 and spec['dtype'] == 'uint8'


def named(family, p, mean_D=0.0, std_D=1.0) -> dict[str, jax.Array]:
  """Return the named outputs of a predictive distribution of standardised targets."""
  return _classifier(p) if family.has_classes else _regressor(p, mean_D, std_D)


def _classifier(p) -> dict:
  found = {'probabilities': jnp.exp(p.log_probs())}
  if not isinstance(p, Mixture):
    return found | _uncertainties(p)
  if p.log_probs_BMK.shape[1] > 1:
    return found | _uncertainties(p) | {'members': jnp.exp(p.log_probs_BMK)}
  total_B = p.total()  # of one member
  return found | {'total': total_B, 'data': total_B, 'knowledge': jnp.zeros_like(total_B)}


def _regressor(p, mean_D, std_D) -> dict:
  """Return mean [B, D] and variances in the target's units.

  Variances come from standardised members. In the units of a large target float32 would lose them.
  """
  size = p.mean().shape[-1]
  mean_D, std_D = (np.broadcast_to(a, (size,)) for a in (mean_D, std_D))

  def in_units(mean):
    one_axis = (1,) * (mean.ndim - 1) + (-1,)
    return mean * std_D.reshape(one_axis) + mean_D.reshape(one_axis)

  spread = p.in_units(np.zeros(size, np.float32), std_D)
  found = {'mean': in_units(p.mean()), 'variance': spread.variance()} | _uncertainties(spread)
  if isinstance(p, GaussianMixture) and p.mean_BMD.shape[1] > 1:
    found['members'] = in_units(p.mean_BMD)
  return found


def _uncertainties(p) -> dict:
  return {name: getattr(p, name)() for name in UNCERTAINTIES}


def expected(model: Model, x) -> dict[str, np.ndarray]:
  """Return the reference outputs for inputs x, computed by the student."""
  prediction = model.predict(x)
  outputs = {name: getattr(prediction, name) for name in UNCERTAINTIES}
  if model.family.has_classes:
    outputs['probabilities'] = prediction.probs
  else:
    distribution = regression.host(model.predictive(x))  # in float64, as the mean
    variance = distribution.data() + distribution.knowledge()
    outputs |= {'mean': prediction.mean, 'variance': variance}
  with contextlib.suppress(ValueError):  # one network without members
    outputs['members'] = model.members(x)
  return {name: np.asarray(outputs[name]) for name in OUTPUTS if name in outputs}


def description(model: Model, batch: int | None) -> dict:
  """Return the description of a file: its inputs, its outputs and its student."""
  spec = model.spec
  known = spec.get('inputs') or {}
  made_by = spec.get(seals.MADE_BY) or {}
  return {
    'name': spec['name'],
    'data': spec['data'],
    'family': spec['family'],
    'student': spec['student']['kind'],
    'members': model.student.size,
    'network': spec['network']['name'],
    'objective': spec['objective'],
    'input': {
      'shape': list(spec['shape']),
      'dtype': 'uint8' if takes_bytes(spec) else 'float32',
      'range': [0, 255 if takes_bytes(spec) else 1] if len(spec['shape']) == 3 else None,
      'columns': known.get('columns'),
    },
    'batch': batch,
    'outputs': {name: list(shape) for name, shape in of(model).outputs().items()},
    'classes': spec['classes'],
    'temperature': model.calibration.temperature if model.calibration else None,
    'weights_sha256': spec.get('sha256') or _digest(model),
    'fingerprints': made_by.get('fingerprints'),
  }


def _digest(model: Model) -> str:
  """Return the SHA-256 of the weights as a student's folder stores them."""
  content = safe.tensors_content('weights.safetensors', safe.flatten(model.variables))
  return hashlib.sha256(content).hexdigest()
