"""ONNX files of a student: written by our converter, read by ONNX Runtime."""

import json
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from ensdistill.exporting.blocks import in_blocks
from ensdistill.exporting.inference import Inference
from ensdistill.exporting.onnx import convert
from ensdistill.exporting.onnx.graph import OPSET, NotSymbolic, Unsupported

FALLBACK = 1  # size of a batch, if the network needs a fixed one and none is given


def write(
  inference: Inference, describe: Callable[[int | None], Mapping], path: pathlib.Path,
  batch: int | None,
) -> dict:  # fmt: skip
  """Write the file; return facts for its record.

  describe: size of a batch, None for any -> the description of the file.
  """
  note = None
  try:
    try:
      model = _converted(inference, describe, batch)
    except NotSymbolic as error:
      batch, note = FALLBACK, f'the batch is fixed at {FALLBACK}: {error}'
      model = _converted(inference, describe, batch)
  except Unsupported as error:
    raise ValueError(
      f'{error} has no form in ONNX here: --to=stablehlo takes every network'
    ) from error
  path.write_bytes(model.SerializeToString())
  return {'opset': OPSET, 'batch': batch} | ({'note': note} if note else {})


def _converted(inference: Inference, describe: Callable, batch: int | None):
  about = {
    key: value if isinstance(value, str) else json.dumps(value)
    for key, value in describe(batch).items()
    if value is not None
  }
  names = list(inference.outputs())
  function, variables, x = inference.call, inference.variables, inference.inputs
  return convert.convert(function, variables, x, names=names, batch=batch, about=about)


def load(path: pathlib.Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
  """Return the function of a file: x [B, ...] -> {name: array}, on the CPU."""
  import onnxruntime

  session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
  (taken,) = session.get_inputs()
  names = [output.name for output in session.get_outputs()]

  def call(x):
    return dict(zip(names, session.run(None, {taken.name: x})))

  fixed = taken.shape[0]
  if not isinstance(fixed, int):
    return call

  def padded(x):
    return in_blocks(call, x, fixed)

  return padded
