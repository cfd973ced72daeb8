"""Write a student's folder: config.json, weights.safetensors and model.stablehlo, sealed."""

import hashlib
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ensdistill import data, nets, students
from ensdistill.storage import safe, seals


def write(folder, spec: Mapping, student: students.Student, variables, settings: str) -> None:
  """Store one network that `ensdistill.load` reads.

  spec: its description, with what made it (seals.MADE_BY).
  settings: fingerprint of the settings that trained it, kept in the seal.
  """
  folder = pathlib.Path(folder)
  content = safe.tensors_content(folder / 'weights.safetensors', safe.flatten(variables))
  own = {**spec, 'sha256': hashlib.sha256(content).hexdigest()}
  files: dict[str, bytes | str] = {
    'weights.safetensors': content,
    'model.stablehlo': stablehlo(own, student, variables),
    'config.json': seals.to_json(own),
  }
  seals.write(folder, 'student', files, settings=settings)


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
