"""A data set cut into parts: held-out examples, a validation split, a limit; by seed."""

import numpy as np

from ensdistill.data.dataset import DataError, Split


def held_out(y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Ascending rows (kept, held): a share of every class, rounded down, or of all targets."""
  order = np.random.RandomState(seed).permutation(len(y))
  if y.dtype.kind == 'i':
    counts = np.bincount(y)
    held = order[_rank(y, order) < (share * counts)[y[order]].astype(int)]
  else:
    held = order[: int(share * len(y))]
  return np.setdiff1d(np.arange(len(y)), held), np.sort(held)


def with_validation(parts, source, where, valid, seed) -> dict[str, Split]:
  """Training, validation and test, the second from the first unless it comes with the set."""
  pool = parts.get('valid', parts['train'])
  size = len(pool.x)
  least, most = 1, size if 'valid' in parts else size - 1
  if valid is not None and not least <= valid <= most:
    raise ValueError(
      f'data.valid={valid}: {where} has {size} examples to take it from, 1 to {most}'
    )
  if 'valid' in parts:
    return parts | {'valid': take(pool, subset(pool.y, size, valid or 0, seed))}
  if most < 1:
    raise DataError(f'{where}: x_train has one example, none is left for validation')
  count = valid or (min(source.valid, size // 2) if source.valid else max(size // 10, 1))
  order = np.arange(size) if source.valid else _seeded(pool.y, seed)
  kept, held = np.sort(order[: size - count]), np.sort(order[size - count :])
  return parts | {'train': take(parts['train'], kept), 'valid': take(pool, held)}


def subset(y, size: int, limit: int, seed: int) -> np.ndarray:
  """The rows that a limit keeps, in their order; of labels every class as often as it can be."""
  if not limit or limit >= size:
    return np.arange(size)
  order = np.random.RandomState(seed).permutation(size)
  if y is not None and y.dtype.kind == 'i':
    # The first of every class, then the second, ...
    order = order[np.lexsort((y[order], _rank(y, order)))]
  return np.sort(order[:limit])


def take(split: Split, rows) -> Split:
  """Ascending rows of a split; a contiguous stretch is not copied, and nothing is decoded."""
  if rows[-1] - rows[0] + 1 == len(rows):
    rows = slice(rows[0], rows[-1] + 1)
  x = split.x[rows] if isinstance(split.x, np.ndarray) else split.x.take(rows)
  return Split(x, split.y[rows])


def _seeded(y: np.ndarray, seed: int) -> np.ndarray:
  """A seeded order that begins, where labels are, with the first example of every class in it."""
  order = np.random.RandomState(seed).permutation(len(y))
  if y.dtype.kind != 'i':
    return order
  return order[np.argsort(_rank(y, order) > 0, kind='stable')]


def _rank(y: np.ndarray, order: np.ndarray) -> np.ndarray:
  """For each place in an order: how many examples of the same class stand before it."""
  grouped = np.argsort(y[order], kind='stable')
  counts = np.bincount(y)
  starts = np.repeat(np.cumsum(counts) - counts, counts)
  rank = np.empty(len(y), int)
  rank[grouped] = np.arange(len(y)) - starts
  return rank
