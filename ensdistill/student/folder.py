"""Write a student's folder: config.json, weights.safetensors, model.stablehlo, and its card."""

import hashlib
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ensdistill import data, nets, students
from ensdistill.evaluation import cost
from ensdistill.storage import safe, seals
from ensdistill.student import card, weights


def write(folder, spec: Mapping, student: students.Student, variables, settings: str) -> None:
  """Store one network that `ensdistill.load` reads, sealed; README.md, the card, is not.

  spec: its description, with what made it (seals.MADE_BY).
  settings: fingerprint of the settings that trained it, kept in the seal.
  """
  folder = pathlib.Path(folder)
  tensors = weights.encoded(safe.flatten(variables), weights.form(spec))
  content = safe.tensors_content(folder / 'weights.safetensors', tensors)
  own = {**spec, 'sha256': hashlib.sha256(content).hexdigest()}
  files: dict[str, bytes | str] = {
    'weights.safetensors': content,
    'model.stablehlo': stablehlo(own, student, variables),
    'config.json': seals.to_json(own),
  }
  seals.write(folder, 'student', files, settings=settings)
  safe.write_atomic(folder / 'README.md', card.text(own, cost.parameters(variables)))


def stablehlo(spec: Mapping, student: students.Student, variables) -> bytes:
  """Return the forward pass for any batch size, on CPU, CUDA and TPU; weights are its arguments.

  Convolutions are exported in the plain form.
  """
  from jax import export

  module = nets.with_form(student.module, 'plain')

  def forward(variables, x):
    return module.apply(variables, data.as_input(x))

  x = jax.ShapeDtypeStruct((*export.symbolic_shape('b'), *spec['shape']), jnp.dtype(spec['dtype']))
  exported = export.export(jax.jit(forward), platforms=('cpu', 'cuda', 'tpu'))(variables, x)
  return bytes(exported.serialize())
