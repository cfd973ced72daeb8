"""Parts cut out of a data set by seed: held-out examples, a validation part, a limit."""

import numpy as np

from ensdistill import families
from ensdistill.data.dataset import Split
from ensdistill.data.errors import DataError
from ensdistill.data.images import stored


def held_out(y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Return ascending rows (kept, held): a share of every class, rounded down, or of all targets."""
  order = np.random.RandomState(seed).permutation(len(y))
  if families.of_targets(y).has_classes:
    counts = np.bincount(y)
    held = order[_rank(y, order) < (share * counts)[y[order]].astype(int)]
  else:
    held = order[: int(share * len(y))]
  return np.setdiff1d(np.arange(len(y)), held), np.sort(held)


def with_validation(parts: dict[str, Split], source, valid: int | None, seed: int):
  """Return the parts with a validation part: its own, or else cut out of the training part.

  With valid = 0 it is empty, and the whole training part trains.
  """
  if valid == 0:
    return parts | {'valid': take(parts['train'], np.arange(0))}
  pool = parts.get('valid', parts['train'])
  size = len(pool.x)
  most = size if 'valid' in parts else size - 1
  if valid is not None and not 1 <= valid <= most:
    raise ValueError(
      f'data.valid={valid}: {source.where} has {size} examples to choose from, set 0 to {most}'
    )
  if 'valid' in parts:
    return parts | {'valid': take(pool, subset(pool.y, size, valid or 0, seed))}
  if most < 1:
    raise DataError(f'{source.where}: x_train has one example; training and validation need two')
  count = valid or (min(source.valid, size // 2) if source.valid else max(size // 10, 1))
  order = np.arange(size) if source.valid else _one_of_each_class_first(pool.y, seed)
  kept, held = np.sort(order[: size - count]), np.sort(order[size - count :])
  return parts | {'train': take(parts['train'], kept), 'valid': take(pool, held)}


def subset(y: np.ndarray | None, size: int, limit: int, seed: int) -> np.ndarray:
  """Return `limit` ascending rows of `size`, classes balanced; all rows if the limit is 0."""
  if not limit or limit >= size:
    return np.arange(size)
  order = np.random.RandomState(seed).permutation(size)
  if y is not None and families.of_targets(y).has_classes:
    # The first example of every class, then the second, ...
    order = order[np.lexsort((y[order], _rank(y, order)))]
  return np.sort(order[:limit])


def take(split, rows):
  """Return ascending rows of a split; contiguous rows are not copied, no image is decoded."""
  if not len(rows):
    rows = slice(0, 0)
  elif rows[-1] - rows[0] + 1 == len(rows):
    rows = slice(rows[0], rows[-1] + 1)
  return type(split)(stored.take(split.x, rows), split.y[rows])


def _one_of_each_class_first(y: np.ndarray, seed: int) -> np.ndarray:
  """Return a seeded order that begins with the first example of every class in it."""
  order = np.random.RandomState(seed).permutation(len(y))
  if not families.of_targets(y).has_classes or (y < 0).any():  # labels may be unknown
    return order
  return order[np.argsort(_rank(y, order) > 0, kind='stable')]


def _rank(y: np.ndarray, order: np.ndarray) -> np.ndarray:
  """Return, for each place in an order, the number of earlier examples of the same class."""
  grouped = np.argsort(y[order], kind='stable')
  counts = np.bincount(y)
  starts = np.repeat(np.cumsum(counts) - counts, counts)
  rank = np.empty(len(y), int)
  rank[grouped] = np.arange(len(y)) - starts
  return rank
