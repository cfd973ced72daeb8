"""Mean and deviation of inputs and targets, as a network sees them."""

import numpy as np

from ensdistill.data import checks
from ensdistill.data.images import stored

_SAMPLE = 1000  # images in files that they are estimated from


def farthest(parts, mean) -> np.ndarray:
  """How far each column of a table goes from its mean in any part."""
  return np.max([np.abs(split.x - np.float64(mean)).max(0) for split in parts.values()], 0)


def sampled(x) -> int:
  """How many examples are a sample of all; 0 where all are looked at."""
  return _SAMPLE if isinstance(x, stored.Stored) and len(x) > _SAMPLE else 0


def moments(x) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and deviation per channel or column as a network sees them; a constant one has 1."""
  if isinstance(x, stored.Stored):  # of a sample, always the same
    x = x[np.sort(np.random.RandomState(0).permutation(len(x))[:_SAMPLE])]
  scale = 255 if x.dtype == np.uint8 else 1
  rows = x.reshape(-1, x.shape[-1])
  blocks = [rows[i : i + 2**20].astype(np.float64) for i in range(0, len(rows), 2**20)]
  mean = sum(block.sum(0) for block in blocks) / len(rows)
  std = np.sqrt(sum(((block - mean) ** 2).sum(0) for block in blocks) / len(rows))
  std = np.where(checks.constant(x), scale, std)
  return tuple((mean / scale).tolist()), tuple((std / scale).tolist())
