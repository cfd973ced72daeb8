"""Weights in fewer bits in the file; they are float32 again once they are loaded.

- bfloat16: kernels are rounded to the nearest bfloat16, and stored as its 16 bits.
- int8: a kernel w becomes round(w / s) with one scale s = max|w| / 127 for each output channel (of
  each member), as in weight-only quantisation. The error of a weight is at most s / 2.

Only kernels, which are nearly all of the weights, change. Biases, norms, statistics and the factors
of a BatchEnsemble stay, also where they have an axis of members.
"""

from collections.abc import Mapping

import numpy as np

BITS, SCALE = ':bfloat16', ':scale'  # ends of names in the file; a name of a weight has no colon


def form(spec: Mapping) -> str | None:
  """Return the form of a student's stored weights; None for float32."""
  return spec.get('weights', {}).get('form')


def encoded(tensors: Mapping[str, np.ndarray], form: str | None) -> dict[str, np.ndarray]:
  """Return the tensors as they are stored."""
  if form is None:
    return dict(tensors)
  stored = {}
  for name, tensor in tensors.items():
    if not _is_kernel(name, tensor):
      stored[name] = tensor
    elif form == 'bfloat16':
      stored[name + BITS] = _bits(tensor)
    else:
      scale = np.abs(tensor).max(_inputs(tensor.ndim), keepdims=True) / np.float32(127)
      stored[name] = np.rint(tensor / np.where(scale > 0, scale, 1)).astype(np.int8)
      stored[name + SCALE] = scale
  return stored


def decoded(tensors: Mapping[str, np.ndarray], form: str | None) -> dict[str, np.ndarray]:
  """Return stored tensors as float32; raise ValueError if they are not of this form."""
  if form is None:
    return dict(tensors)
  decoded_tensors = {}
  for name, tensor in tensors.items():
    if name.endswith(SCALE):
      continue
    if form == 'bfloat16' and name.endswith(BITS):
      if tensor.dtype != np.uint16:
        raise ValueError(f'{name!r} is {tensor.dtype}, not the bits of bfloat16 in uint16')
      shifted = np.ascontiguousarray(tensor).astype(np.uint32) << 16
      decoded_tensors[name.removesuffix(BITS)] = shifted.view(np.float32)
    elif form == 'int8' and tensor.dtype == np.int8:
      decoded_tensors[name] = tensor * _scale(tensors, name)
    else:
      decoded_tensors[name] = tensor
  kernels = {name for name, tensor in decoded_tensors.items() if _is_kernel(name, tensor)}
  stored = {name.removesuffix(BITS).removesuffix(SCALE) for name in tensors if ':' in name}
  if stored != kernels:
    odd = sorted(stored ^ kernels)[0]
    raise ValueError(f'{odd!r} is not stored as {form}')
  return decoded_tensors


def _is_kernel(name: str, tensor: np.ndarray) -> bool:
  own = name.rpartition('/')[2]
  return own == 'kernel' and tensor.ndim >= 2 and tensor.dtype == np.float32


def _inputs(dimensions: int) -> tuple[int, ...]:
  """Return the axes of a kernel that share a scale: all but members and output channels.

  Kernels are [I, O] and [H, W, I, O], with a leading axis of members or without.
  """
  first = 1 if dimensions in (3, 5) else 0
  return tuple(range(first, dimensions - 1))


def _scale(tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  """Return the scale of an int8 tensor; raise ValueError unless it fits."""
  tensor, scale = tensors[name], tensors.get(name + SCALE)
  if tensor.ndim < 2:
    raise ValueError(f'{name!r} has the shape {list(tensor.shape)}, which int8 kernels have not')
  inputs = _inputs(tensor.ndim)
  wanted = tuple(1 if axis in inputs else size for axis, size in enumerate(tensor.shape))
  if scale is None or scale.dtype != np.float32 or scale.shape != wanted:
    raise ValueError(f'{name + SCALE!r} must be float32 {list(wanted)}')
  return scale


def _bits(tensor: np.ndarray) -> np.ndarray:
  """Return the bits of the nearest bfloat16, ties to even, in uint16."""
  bits = np.ascontiguousarray(tensor).view(np.uint32).astype(np.uint64)
  rounded = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
  return rounded.astype(np.uint16)
