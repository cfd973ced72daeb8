"""StableHLO files: the program of `jax.export`, with the weights inside and a description.

The description follows the program, so that the file as it is can also be read by
`jax.export.deserialize`, which needs JAX alone. Layout: program, description (JSON), SHA-256 of
both, length of the description (8 bytes, little endian), MARK.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ensdistill import messages, runtime
from ensdistill.exporting.blocks import in_blocks
from ensdistill.mesh import block_size
from ensdistill.student import inputs

if TYPE_CHECKING:
  from ensdistill.exporting.inference import Inference

MARK = b'ensdistill-hlo-1'
TAIL = 32 + 8 + len(MARK)
PLATFORMS = ('cpu', 'cuda', 'tpu')
LARGEST = 500  # examples of a call, so that memory is bounded; as in `Model.predict`


def write(
  inference: 'Inference', describe: Callable[[int | None], Mapping], path: pathlib.Path,
  batch: int | None,
) -> dict:  # fmt: skip
  """Write the file; return facts for its record.

  describe: size of a batch, None for any -> the description of the file.
  """
  import jax
  from jax import export

  note = None
  function = jax.jit(inference.closed())
  try:
    size = batch or export.symbolic_shape('batch')[0]
    exported = export.export(function, platforms=PLATFORMS)(inference.inputs(size))
  except Exception as error:
    if batch:
      raise
    batch, cause = 1, messages.one_line(error)
    note = f'the batch is fixed at {batch}: tracing with an open batch failed ({cause})'
    exported = export.export(function, platforms=PLATFORMS)(inference.inputs(batch))
  path.write_bytes(content(bytes(exported.serialize()), describe(batch)))
  return {'platforms': list(PLATFORMS), 'batch': batch} | ({'note': note} if note else {})


def content(program: bytes, description: Mapping) -> bytes:
  """Return the bytes of a file."""
  about = json.dumps(description, allow_nan=False).encode()
  digest = hashlib.sha256(program + about).digest()
  return program + about + digest + len(about).to_bytes(8, 'little') + MARK


def load(file) -> 'Program':
  """Return the program of a StableHLO file of a student, as a function: x -> {name: array}.

  Neither the network nor Flax is needed. Raises ValueError, with the file and the cause, if it is
  damaged or something else.
  """
  path = pathlib.Path(file)
  try:
    data = path.read_bytes()
  except OSError as error:
    raise type(error)(error.errno, f'cannot be read: {error.strerror}', str(path)) from error
  return Program(path, *_parse(path, data))


def _parse(path: pathlib.Path, data: bytes) -> tuple[bytes, dict]:
  """Return program and description, verified."""
  remedy = 'copy it again, or export it again with --to=stablehlo'
  if len(data) <= TAIL or not data.endswith(MARK):
    raise ValueError(f'{path} is no StableHLO file of a student, or was cut off: {remedy}')
  size = int.from_bytes(data[-len(MARK) - 8 : -len(MARK)], 'little')
  program, about = data[: -TAIL - size], data[-TAIL - size : -TAIL]
  digest = hashlib.sha256(program + about).digest()
  if size > len(data) - TAIL or digest != data[-TAIL : -TAIL + 32]:
    raise ValueError(f'{path} is damaged (its SHA-256 does not match): {remedy}')
  return program, json.loads(about)


class Program:
  """A loaded file: call it with inputs [B, ...]."""

  def __init__(self, path: pathlib.Path, program: bytes, description: dict):
    import jax
    from jax import export

    self.path, self.description = path, description
    try:
      exported = export.deserialize(bytearray(program))
    except Exception as error:  # of a later version of JAX
      raise ValueError(
        f'{path} cannot be read by jax {jax.__version__} ({messages.one_line(error)}): export it '
        "again from the student's folder"
      ) from error
    here = jax.default_backend()
    platform = {'gpu': 'cuda', 'rocm': 'cuda'}.get(here, here)
    if platform not in exported.platforms:
      raise ValueError(
        f'{path} is for {", ".join(exported.platforms)}, and JAX runs on {here} here: set '
        'JAX_PLATFORMS=cpu'
      )
    self._call = jax.jit(exported.call)
    self._compiled: set[int] = set()

  @property
  def classes(self) -> list[str] | None:
    """The names of the classes, in the order of the probabilities."""
    return self.description['classes']

  @property
  def outputs(self) -> list[str]:
    """The names of the outputs."""
    return list(self.description['outputs'])

  def __call__(
    self, x, *, scale: float | None = None, on_invalid: str = 'error'
  ) -> dict[str, np.ndarray]:
    """Return the outputs for inputs [B, ...] as NumPy arrays; see `description['input']`.

    Inputs are checked as `Model.predict` checks them, and the arguments are the same. Examples go
    through in blocks, and fewer are padded to the next power of two, so a few compiled programs
    serve all sizes.
    """
    x, invalid = self._accepted(x, scale, on_invalid)
    if not len(x):  # programs take at least one example
      shapes = self.description['outputs'].items()
      return {name: np.zeros((0, *shape), np.float32) for name, shape in shapes}
    block = self.description['batch'] or block_size(len(x), LARGEST)
    outputs = in_blocks(self._run, x, block)
    if invalid.any():
      mask = {name: invalid.reshape(-1, *(1,) * (a.ndim - 1)) for name, a in outputs.items()}
      outputs = {name: np.where(mask[name], np.float32(np.nan), a) for name, a in outputs.items()}
    return outputs

  def _run(self, x: np.ndarray) -> dict:
    """Return the outputs for one block; the first call for its size uses the compilation cache."""
    if len(x) in self._compiled:
      return self._call(x)
    with runtime.cached():
      found = self._call(x)
    self._compiled.add(len(x))
    return found

  def _accepted(self, x, scale, on_invalid: str) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of the program's type, and which rows are invalid: bool [B]."""
    wanted = self.description['input']
    takes_bytes = wanted['dtype'] == 'uint8'
    if takes_bytes:
      x = np.asarray(x)
      if scale is not None or (x.size and x.dtype != np.uint8):
        given = f'inputs hold {x.dtype}' if scale is None else f'scale={scale!r} gives floats'
        raise ValueError(f'{given}, {self.path.name} takes uint8 from 0 to 255: give stored bytes')
    spec = {'shape': wanted['shape'], 'inputs': {'columns': wanted.get('columns')}}
    accepted = inputs.accept(x, spec, scale=scale, on_invalid=on_invalid)
    if takes_bytes:
      return accepted.x.astype(np.uint8), accepted.invalid
    if accepted.x.dtype == np.uint8:  # networks take images in [0, 1]
      return accepted.x.astype(np.float32) / np.float32(255), accepted.invalid
    return accepted.x, accepted.invalid

  def __repr__(self) -> str:
    sizes = ', '.join(map(str, ['N', *self.description['input']['shape']]))
    return f'<{self.path.name}: [{sizes}] to {", ".join(self.outputs)}>'
