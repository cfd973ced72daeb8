"""The columns of predictions, by name, as they are written: one value a row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ensdistill.prediction.sources import Block

# {column: values [N]}: arrays of floats or bools, or lists of texts. `error` is '' or the reason.
Columns = dict[str, Any]


class Wanted(NamedTuple):
  """Outputs besides probabilities (or means) and uncertainties."""

  classes: Sequence[str] | None = None  # names of the classes; None for regression
  targets: int = 1  # of regression
  coverage: float | None = None  # of prediction sets, or of the interval of quantiles
  kind: str = 'lac'  # of prediction sets
  abstain: float | None = None  # rate of abstention
  outside: bool = False  # mark rows of tables far outside the training range


def levels(coverage: float) -> list[float]:
  """Return the quantiles of regression: the ends of the central interval, and the median."""
  tail = (1 - coverage) / 2
  return [round(tail, 9), 0.5, round(1 - tail, 9)]


def level_name(level: float) -> str:
  """Return the column of a quantile: q05, q50, q97.5."""
  whole, _, rest = f'{100 * level:.7f}'.rstrip('0').partition('.')
  return f'q{int(whole):02d}' + (f'.{rest}' if rest else '')


def names(wanted: Wanted) -> list[str]:
  """Return the columns in their order."""
  columns = ['input']
  if wanted.classes is not None:
    columns += ['label', 'confidence', *(f'p_{name}' for name in wanted.classes)]
  else:
    columns += _targets('mean', wanted)
    for level in levels(wanted.coverage) if wanted.coverage else []:
      columns += _targets(level_name(level), wanted)
  columns += ['total', 'data', 'knowledge']
  if wanted.classes is not None and wanted.coverage is not None:
    columns.append('set')
  if wanted.abstain is not None:
    columns.append('abstain')
  if wanted.outside:
    columns.append('outside')
  return [*columns, 'error']


def _targets(name: str, wanted: Wanted) -> list[str]:
  """Return a column's name, one for each target."""
  if wanted.targets == 1:
    return [name]
  return [f'{name}_{number}' for number in range(1, wanted.targets + 1)]


def of_block(block: Block, p, wanted: Wanted) -> Columns:
  """Return the columns of a block from its predictions; p is None if all rows have errors."""
  size = len(block.names)
  errors = [''] * size
  for row, reason in block.errors.items():
    errors[row] = reason
  if p is not None:
    for row in np.flatnonzero(p.invalid):
      errors[row] = errors[row] or 'the input holds NaN or infinity, or its prediction does'
  columns = names(wanted)
  if p is None:
    values = [_blank(name, size, wanted) for name in columns[1:-1]]
  else:
    values = _values(p, wanted)
  return dict(zip(columns, [block.names, *values, errors], strict=True))


def _blank(name: str, size: int, wanted: Wanted):
  """Return the values of rows without predictions, of the type that predictions have."""
  if name in ('label', 'set'):
    return [''] * size
  if name in ('abstain', 'outside'):
    return np.zeros(size, bool)
  return np.full(size, np.nan, np.float64 if wanted.classes is None else np.float32)


def _values(p, wanted: Wanted) -> list[Any]:
  """Return the values of all columns between `input` and `error`."""
  columns: list[Any] = []
  if wanted.classes is not None:
    label_B = np.nan_to_num(p.probs).argmax(-1)
    labels = np.array([*wanted.classes, ''], object)
    columns += [labels[label_B].tolist(), p.probs.max(-1), *p.probs.T]
  else:
    columns += [*p.mean.T]
    if wanted.coverage:
      for quantile_BD in p.quantiles(levels(wanted.coverage)):
        columns += [*quantile_BD.T]
  columns += [p.total, p.data, p.knowledge]
  if wanted.classes is not None and wanted.coverage is not None:
    columns.append(joined(p.predict_set(wanted.coverage, wanted.kind), wanted.classes))
  if wanted.abstain is not None:
    columns.append(p.abstain(wanted.abstain))
  if wanted.outside:
    columns.append(p.outside)
  return columns


def joined(member_BK: np.ndarray, classes: Sequence[str]) -> list[str]:
  """Return the names of the classes of each set, joined by |."""
  packed = np.packbits(member_BK, axis=1)
  keys = np.ascontiguousarray(packed).view(f'V{packed.shape[1]}')[:, 0]
  _, first, place_B = np.unique(keys, return_index=True, return_inverse=True)
  texts = ['|'.join(classes[int(k)] for k in np.flatnonzero(member_BK[row])) for row in first]
  return [texts[place] for place in place_B.tolist()]
