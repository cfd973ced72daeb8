"""JAX functions as ONNX models, run by ONNX Runtime."""

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill.exporting.onnx import convert


def model(function, x, *, variables=None, batch=None):
  """Return the ONNX model of x -> y."""

  def call(variables, x):
    return {'y': function(x) if variables is None else function(variables, x)}

  def taken(size):
    return jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)

  return convert.convert(call, variables, taken, names=['y'], batch=batch)


def run(made, x):
  import onnxruntime

  session = onnxruntime.InferenceSession(made.SerializeToString())
  return session.run(None, {'input': x})[0]


def agree(function, x, *, batch=None, rtol=1e-5, atol=1e-6):
  """Compare ONNX Runtime with JAX, for the traced size of the batch and another one."""
  made = model(function, x, batch=batch)
  for part in (x, x[:1]) if batch is None else (x,):
    found, expected = run(made, part), np.asarray(function(jnp.asarray(part)))
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
  return made
