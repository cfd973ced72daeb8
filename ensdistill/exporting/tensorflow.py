"""TensorFlow's SavedModel and TFLite files of a student, by jax2tf; the batch is fixed.

A SavedModel with an open batch can be saved, but fails when it is called.
"""

import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ensdistill.exporting.blocks import in_blocks
from ensdistill.exporting.inference import Inference

SIGNATURE = 'serving_default'
BATCH = 1  # unless another one is given


def _tensorflow() -> Any:
  """Return TensorFlow, which logs errors alone unless the environment says otherwise."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  import tensorflow

  return tensorflow


def _function(inference: Inference, batch: int):
  """Return a module of TensorFlow with the function of a batch, and this function."""
  tf = _tensorflow()
  from jax.experimental import jax2tf

  taken = inference.inputs(batch)
  module: Any = tf.Module()
  function = jax2tf.convert(inference.closed(), with_gradient=False)
  signature = [tf.TensorSpec(taken.shape, tf.as_dtype(taken.dtype), name='input')]
  module.predict = tf.function(function, autograph=False, input_signature=signature)
  return module, module.predict.get_concrete_function()


def write_savedmodel(
  inference: Inference, describe: Callable[[int | None], Mapping], path: pathlib.Path,
  batch: int | None,
) -> dict:  # fmt: skip
  """Write a SavedModel with one signature; return facts for its record."""
  tf, batch = _tensorflow(), batch or BATCH
  module, concrete = _function(inference, batch)
  tf.saved_model.save(module, str(path), signatures={SIGNATURE: concrete})
  return {'signature': SIGNATURE, 'batch': batch}


def load_savedmodel(path: pathlib.Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
  """Return the function of a SavedModel: x [B, ...] -> {name: array}."""
  tf = _tensorflow()
  module = tf.saved_model.load(str(path))
  taken = module.signatures[SIGNATURE].structured_input_signature[1]['input']
  batch = int(taken.shape[0])

  def call(x):
    # Looked up in the module: a function alone does not keep the module's variables alive.
    found = module.signatures[SIGNATURE](input=tf.constant(x))
    return {name: value.numpy() for name, value in found.items()}

  def run(x):
    return in_blocks(call, x, batch)

  return run


def write_tflite(
  inference: Inference, describe: Callable[[int | None], Mapping], path: pathlib.Path,
  batch: int | None,
) -> dict:  # fmt: skip
  """Write a TFLite file with one signature; return facts for its record."""
  tf, batch = _tensorflow(), batch or BATCH
  module, concrete = _function(inference, batch)
  converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
  path.write_bytes(converter.convert())
  return {'batch': batch}


def load_tflite(path: pathlib.Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
  """Return the function of a TFLite file: x [B, ...] -> {name: array}."""
  interpreter = _interpreter()(model_path=str(path))
  runner = interpreter.get_signature_runner()
  (taken,) = runner.get_input_details().items()
  name, details = taken

  def call(x):
    return runner(**{name: x})

  def run(x):
    return in_blocks(call, x, int(details['shape'][0]))

  return run


def _interpreter() -> Callable:
  """Return the interpreter of LiteRT, or the deprecated one of TensorFlow."""
  try:
    from ai_edge_litert.interpreter import Interpreter
  except ImportError:
    tf = _tensorflow()

    def create(**settings):
      with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return tf.lite.Interpreter(**settings)

    return create
  return Interpreter
