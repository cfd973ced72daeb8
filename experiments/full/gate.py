"""The gate: a single WRN-28-1 on CIFAR-10 must be as good as its authors'."""

from collections.abc import Sequence

import numpy as np

WANTED, TOLERANCE = 0.9287, 0.004  # LatentBE's authors, PyTorch


def members(records: Sequence[dict]) -> list[float]:
  """Return the test accuracy of one member, the mean over an ensemble, of each teacher."""
  found = {
    (record['ensemble'], record['teacher']): row['metrics']['acc']
    for record in records
    if (record['data'], record['variant']) == ('cifar10', 'common')
    for row in record['rows']
    if row['role'] == 'member'
  }
  return list(found.values())


def passed(records: Sequence[dict]) -> bool:
  """Return whether a member's accuracy is that of the authors, within the tolerance."""
  found = members(records)
  return bool(found) and abs(float(np.mean(found)) - WANTED) <= TOLERANCE


def sentence(records: Sequence[dict]) -> str:
  """Return what the gate says."""
  wanted = f'{100 * WANTED:.2f} ± {100 * TOLERANCE:.1f} %'
  found = members(records)
  if not found:
    return f'Gate: a single WRN-28-1 on CIFAR-10 has not run; it must reach {wanted}.'
  text = f'{100 * float(np.mean(found)):.2f} % ({len(found)} teacher(s) of four members)'
  if passed(records):
    return f'Gate: a single WRN-28-1 on CIFAR-10 reaches {text}, wanted {wanted}: passed.'
  return (
    f'Gate: a single WRN-28-1 on CIFAR-10 reaches {text}, wanted {wanted}: not passed, so no '
    'distilled result is shown and no later stage starts.'
  )
