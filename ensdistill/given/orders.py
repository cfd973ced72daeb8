"""Outputs whose columns stand in another order than the data set's classes."""

import numpy as np
from scipy import optimize

GAIN = 0.1  # share of the examples that another order must get right in addition
_SHUFFLES = 5
_SHOWN = 20  # columns that a message lists


def columns_of_classes(outputs_NMO, y_N) -> list[int] | None:
  """Return the column of each class, if the outputs fit the labels far better in another order.

  The best assignment of columns to classes always fits at least as well as the given one. It is far
  better if it gains a tenth of the examples, also over what it reaches on shuffled labels.
  """
  predicted_N, classes = outputs_NMO.mean(1).argmax(-1), outputs_NMO.shape[-1]
  columns, right = _assigned(predicted_N, y_N, classes)
  known = (predicted_N == y_N).mean()
  if right - known < GAIN:
    return None
  random = np.random.default_rng(0)
  by_chance = max(
    _assigned(predicted_N, random.permutation(y_N), classes)[1] for _ in range(_SHUFFLES)
  )
  return columns if right - by_chance >= GAIN else None


def _assigned(predicted_N, y_N, classes: int) -> tuple[list[int], float]:
  """Return the column of each class that gets most examples right, and their share."""
  counts_KK = np.zeros((classes, classes), int)
  np.add.at(counts_KK, (y_N, predicted_N), 1)
  _, columns = optimize.linear_sum_assignment(counts_KK, maximize=True)
  return columns.tolist(), counts_KK[np.arange(classes), columns].sum() / len(y_N)


def remedy(columns: list[int]) -> str:
  """Return a message with the likely order of the columns and the remedy."""
  if len(columns) > _SHOWN:
    moved = next(k for k, column in enumerate(columns) if column != k)
    return (
      f'the columns seem to be in another order than the classes (class {moved} in column '
      f'{columns[moved]}): store outputs[:, :, order], with the column of each class in order'
    )
  return (
    'the columns seem to be in another order than the classes: store '
    f'outputs[:, :, {columns}], in which column k is class k'
  )
