"""Files of arrays, written and read as the package does."""

import pathlib

from ensdistill.storage import safe


def save(path, arrays, metadata=None) -> None:
  """Write arrays by name and JSON metadata as safetensors."""
  safe.write_atomic(path, safe.tensors_content(path, arrays, metadata))


def load(path) -> dict:
  """Return the arrays of a safetensors file by name."""
  return safe.parse_tensors(pathlib.Path(path).read_bytes())
