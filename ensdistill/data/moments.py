"""Mean and deviation of inputs and targets, as a network sees them."""

from collections.abc import Iterator

import numpy as np

from ensdistill.data import checks
from ensdistill.data.images import stored

_SAMPLE = 1000  # images in files that mean and deviation are estimated from
_BLOCK = 2**20  # rows that are summed together


def mean_and_deviation(x) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Return mean and deviation per channel or column; a constant one has the deviation 1.

  Those of images in files are estimated from a sample, which is always the same.
  """
  if stored.in_files(x):
    x = x[np.sort(np.random.RandomState(0).permutation(len(x))[:_SAMPLE])]
  scale = 255 if x.dtype == np.uint8 else 1
  rows = x.reshape(-1, x.shape[-1])
  mean = np.asarray(sum(block.sum(0) for block in _blocks(rows)) / len(rows))
  std = np.sqrt(sum(((block - mean) ** 2).sum(0) for block in _blocks(rows)) / len(rows))
  std = np.where(checks.constant_columns(x), scale, std)
  return tuple((mean / scale).tolist()), tuple((std / scale).tolist())


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
  """Return the rows as float64, block by block: all of them would take 8 times their memory."""
  for start in range(0, len(rows), _BLOCK):
    yield rows[start : start + _BLOCK].astype(np.float64)


def sample_size(x) -> int:
  """Return how many examples `mean_and_deviation` samples; 0 if it uses all."""
  return _SAMPLE if stored.in_files(x) and len(x) > _SAMPLE else 0


def farthest(parts, mean) -> np.ndarray:
  """Return the largest distance from the mean in any part, per column of a table."""
  found = [np.abs(part.x - np.float64(mean)).max(0) for part in parts.values() if len(part.x)]
  return np.max(found, 0)
