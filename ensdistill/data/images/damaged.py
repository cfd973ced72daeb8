"""Images that cannot be decoded: skipped, or refused before a long training run."""

import contextlib
import dataclasses
import json
import os

import numpy as np

from ensdistill import processes, stopping
from ensdistill.data.errors import DataError
from ensdistill.data.images import stored
from ensdistill.storage import safe


def skip(images: stored.Stored, file: str | os.PathLike) -> tuple[stored.Stored, np.ndarray]:
  """Return the images that can be decoded, and their rows.

  All images are decoded once. The reasons of those that fail are kept in `file`, if it can be
  written; only those are tried again the next time, because they may have been repaired.
  """
  reasons = _agreed_reasons(images, file)
  rows = np.setdiff1d(np.arange(len(images)), [*reasons])
  if not len(rows):
    raise DataError(next(iter(reasons.values())))
  left = images.take(rows)
  left = dataclasses.replace(left, skipped=tuple(reasons.values()), tried=os.fspath(file))
  return left, rows


def refuse(x, part: str) -> None:
  """Raise Unreadable if an image of a part (valid, test) cannot be decoded.

  All images are decoded once. The result is kept beside them, as in `skip`.
  """
  if stored.in_files(x) and not x.tried:
    file = os.path.join(x.records.folder, f'.unreadable-{part}-stop.json')
    reasons = _agreed_reasons(x, file)
    if reasons:
      raise stored.Unreadable(next(iter(reasons.values())))


def _agreed_reasons(images: stored.Stored, file) -> dict[int, str]:
  """Return `_reasons`, which the first process finds for all."""
  found = processes.agreed(lambda: _reasons(images, file), 'unreadable')
  return {int(row): why for row, why in found.items()}  # keys of JSON are texts


def _reasons(images: stored.Stored, file) -> dict[int, str]:
  """Return why images cannot be read, by row; a second time only those rows are tried."""
  stamp, known = images.records.stamp().hex() + ' of one size' * images.exact, None
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
    with open(file) as opened:
      found = json.load(opened)
    if found['stamp'] == stamp:
      known = {int(row): reason for row, reason in found['unreadable'].items()}
  reasons = _try(images, range(len(images)) if known is None else sorted(known))
  if reasons != known:
    with contextlib.suppress(OSError):
      safe.write_atomic(file, json.dumps({'stamp': stamp, 'unreadable': reasons}, indent=2))
  return reasons


def _try(images: stored.Stored, rows) -> dict[int, str]:
  """Return why images of these rows cannot be read."""
  from tqdm import tqdm

  def reason(row: int) -> str | None:
    try:
      images.decode(row)
    except stored.Unreadable as error:
      return error.reason
    return None

  reasons: dict[int, str] = {}
  for start in tqdm(range(0, len(rows), stored.CHUNK), 'trying', leave=False, disable=None):
    stopping.check()
    chunk = rows[start : start + stored.CHUNK]
    reasons |= {row: why for row, why in zip(chunk, stored.thread_pool().map(reason, chunk)) if why}
  return reasons
