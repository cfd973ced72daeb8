"""Images converted to another shape and dtype, in NumPy."""

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_BLOCK = 1024  # images that are resized together; bounds the memory


def fit(x_NHWC: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Return images in another shape (H, W, C): channels converted, then resized; dtype is kept."""
  height, width, channels = shape
  return resize(convert(x_NHWC, channels), height, width)


def convert(x_NHWC: np.ndarray, channels: int) -> np.ndarray:
  """Convert grey to colour by repetition, colour to grey by luma; drop an alpha channel."""
  given = x_NHWC.shape[-1]
  if given == channels:
    return x_NHWC
  if given in (2, 4):
    return convert(x_NHWC[..., :-1], channels)
  if given == 1:
    return np.repeat(x_NHWC, channels, -1)
  if given == 3 and channels == 1:
    return _rounded(x_NHWC.astype(np.float32) @ _LUMA[:, None], x_NHWC.dtype)
  raise ValueError(f'images with {given} channels cannot be converted to {channels} channels')


def resize(x_NHWC: np.ndarray, height: int, width: int) -> np.ndarray:
  """Resize along each axis: by the mean over the area to shrink, linearly to enlarge."""
  if x_NHWC.shape[1:3] == (height, width):
    return x_NHWC
  rows, columns = weights(x_NHWC.shape[1], height), weights(x_NHWC.shape[2], width)
  out = np.empty((len(x_NHWC), height, width, x_NHWC.shape[3]), x_NHWC.dtype)
  for start in range(0, len(x_NHWC), _BLOCK):
    block = x_NHWC[start : start + _BLOCK].astype(np.float32)
    block = np.einsum('ph,nhwc,qw->npqc', rows, block, columns, optimize=True)
    out[start : start + _BLOCK] = _rounded(block, x_NHWC.dtype)
  return out


def weights(size: int, new_size: int) -> np.ndarray:
  """Return the weight of every old pixel in every new one: [new_size, size]."""
  if new_size <= size:
    edges = np.arange(new_size + 1) * (size / new_size)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)[None]
    overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    table = np.maximum(overlap, 0)
  else:
    # Pixel centres lie at half-integers; the edge pixel is repeated beyond them.
    centre = np.clip((np.arange(new_size) + 0.5) * (size / new_size) - 0.5, 0, size - 1)
    table = np.maximum(1 - np.abs(centre[:, None] - np.arange(size)[None]), 0)
  return (table / table.sum(1, keepdims=True)).astype(np.float32)


def as_dtype(x: np.ndarray, dtype) -> np.ndarray:
  """Convert uint8 images to floats in [0, 1], or back."""
  dtype = np.dtype(dtype)
  if x.dtype == dtype:
    return x
  if dtype == np.uint8:
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
  return x.astype(dtype) / dtype.type(255) if x.dtype == np.uint8 else x.astype(dtype)


def _rounded(x: np.ndarray, dtype) -> np.ndarray:
  """Convert to the dtype, rounded if it is uint8."""
  return np.rint(x).clip(0, 255).astype(dtype) if dtype == np.uint8 else x.astype(dtype)
