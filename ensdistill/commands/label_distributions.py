"""A student, and the ensemble that it was distilled from, against distributions over labels."""

import functools
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from ensdistill import members, objectives, spec
from ensdistill.data import DataError
from ensdistill.evaluation import rows
from ensdistill.evaluation.inference import Predictor
from ensdistill.families import FAMILIES
from ensdistill.metrics import label_distributions as metrics
from ensdistill.storage import safe, seals, teacher_files

TOLERANCE = 1e-3  # of the sum of a row
FLAG = '--label-distributions'


class Ensemble(NamedTuple):
  """The members of a student's teacher."""

  predictor: Predictor
  variables: dict  # leaves [M, ...]
  size: int


def read(path: str, dataset) -> np.ndarray:
  """Return the distributions [N, K] of the test examples, from those of all that the source has.

  Raise ValueError for another shape or rows that are no distributions, DataError for a file that
  cannot be read.
  """
  where = f'{FLAG}={path}'
  if not FAMILIES[dataset.family].has_classes:
    raise ValueError(f'{where}: {dataset.name} has no classes (regression)')
  try:
    with open(path, 'rb') as file:
      found = np.lib.format.read_array(file, allow_pickle=False)
  except ValueError as error:
    raise DataError(f'{path} is not a readable .npy file ({error})') from error
  own = dataset.rows['test']
  wanted = own.size, dataset.targets
  if found.shape != wanted or found.dtype.kind not in 'fiu':
    raise ValueError(
      f'{where} holds {found.dtype} {found.shape}: store numbers [N, K] = {wanted}, one row per '
      f'{own.part} example of {dataset.name} in the order of the source'
    )
  found = found.astype(np.float64)
  wrong = ~(np.isfinite(found).all(1) & (found >= 0).all(1))
  wrong |= ~(np.abs(found.sum(1) - 1) <= TOLERANCE)
  if wrong.any():
    row = int(np.flatnonzero(wrong)[0])
    raise ValueError(
      f'{where}: row {row} sums to {found[row].sum():.6g}, or has values below 0 or not finite: '
      'divide counts by the sum of their row'
    )
  return (found / found.sum(1, keepdims=True))[own.rows]


class Prepared(NamedTuple):
  """What a student's predictions are compared with; everything that can fail has been checked."""

  path: str
  labels_BK: np.ndarray
  ensemble: Ensemble | None
  reason: str | None  # why there is no ensemble


def prepared(model, folder: pathlib.Path, dataset, options) -> Prepared:
  """Return what the command's options name; raise ValueError or DataError."""
  labels_BK = read(options.label_distributions, dataset)
  batch = min(options.batch_size, len(dataset.test.x))
  ensemble, reason = None, None
  try:
    ensemble = find(model, folder, options.teacher, batch)
  except LookupError as error:
    reason = error.args[0]
    if options.teacher:
      raise ValueError(f'--teacher={options.teacher}: {reason}') from None
  return Prepared(options.label_distributions, labels_BK, ensemble, reason)


def measured(against: Prepared, name: str, predictive, x) -> dict:
  """Return {'rows': [...], 'not_run': reason or None, ...} of student, one member and ensemble.

  name: of the student's row. predictive: the student's, for the test inputs x.
  """
  labels_BK, ensemble = against.labels_BK, against.ensemble
  found = [_row(name, [metrics.against(predictive.log_probs(), labels_BK)])]
  if ensemble is None:
    found += [_row(role, None) for role in (rows.MEMBER, rows.ENSEMBLE)]
  else:
    theirs = ensemble.predictor(ensemble.variables, x)
    alone = np.moveaxis(np.asarray(theirs.log_probs_BMK), 1, 0)
    found.append(_row(rows.MEMBER, [metrics.against(one, labels_BK) for one in alone]))
    together = metrics.against(theirs.log_probs(), labels_BK)
    found.append(_row(rows.name(rows.ENSEMBLE, ensemble.size), [together]))
  return {
    'file': pathlib.Path(against.path).name,
    'sha256': safe.sha256(against.path),
    'entropy': float(metrics.entropy(labels_BK).mean()),
    'rows': found,
    'not_run': against.reason,
  }


def _row(name: str, repeats: list[dict] | None) -> dict:
  """Return means over the members and their standard errors; nulls without predictions."""
  if repeats is None:
    return {'name': name, 'seeds': 0, 'se': {}, 'metrics': dict.fromkeys(METRICS)}
  values = {key: np.array([one[key] for one in repeats]) for key in METRICS}
  several, root = len(repeats) > 1, len(repeats) ** 0.5
  return {
    'name': name,
    'seeds': len(repeats),
    'se': {k: float(v.std(ddof=1) / root) if several else None for k, v in values.items()},
    'metrics': {k: float(v.mean()) for k, v in values.items()},
  }


METRICS = {'cross_entropy': 'cross-entropy', 'kl': 'KL', 'entropy_rank': 'rank of entropies'}


def lines(found: dict) -> list[str]:
  """Return the section of the command's table."""
  title = f'against {found["file"]}, whose mean entropy is {found["entropy"]:.4f}'
  text = ['', f'{title:34}', f'{"":22}' + ''.join(f'{name:>24}' for name in METRICS.values())]
  for row in found['rows']:
    cells = [_cell(row['metrics'][key], row['se'].get(key)) for key in METRICS]
    text.append(f'{row["name"]:22}' + ''.join(f'{cell:>24}' for cell in cells))
  if found['not_run']:
    text.append(f'not run: member and ensemble: {found["not_run"]}')
  return text


def _cell(value, error) -> str:
  if value is None:
    return '-'
  return f'{value:.4f}' + (f' ± {error:.4f}' if error else '')


def find(model, folder: pathlib.Path, given: str | None, batch: int) -> Ensemble:
  """Return the ensemble of a student; raise LookupError with the reason if there is none.

  given: its folder, or the folder of several; by default the folder `teachers` beside the run's.
  """
  made_by = model.spec.get(seals.MADE_BY, {})
  fingerprints, settings = (made_by.get(key) or {} for key in ('fingerprints', 'config'))
  own = str(fingerprints.get('teacher') or '')
  if not own and not given:
    raise LookupError('the student does not name its teacher: give --teacher=DIR')
  root = pathlib.Path(given) if given else folder.resolve().parent.parent / 'teachers'
  place = root if (root / 'teacher.json').exists() else root / own
  facts = seals.read_json(place / 'teacher.json', remedy='copy the folder again')
  if facts is None:
    remedy = 'give the folder that has it' if given else 'give --teacher=DIR'
    raise LookupError(f'{place} holds no teacher (no teacher.json): {remedy}')
  if 'network' not in facts:
    raise LookupError(f'{place} is of an ensemble that was trained elsewhere: it has no weights')
  if facts['data'] != fingerprints.get('data', facts['data']):
    raise LookupError(f'{place} was trained on other data than the student')
  stored = teacher_files.all_tensors(place)
  size = settings.get('teacher.members') or len(stored)
  if not stored or len(stored) < size:
    raise LookupError(f'{place} holds {len(stored)} members of {size}')
  return _built(model, facts, stored[:size], batch)


def _built(model, facts: dict, stored: list[dict], batch: int) -> Ensemble:
  """Return stored members as networks on the data of a student."""
  network = {name: value for name, value in facts['network'].items() if name != 'content'}
  own = {
    'network': network,
    'student': {'kind': 'single'},
    'objective': 'none',
    'objective_settings': {},
  }
  try:
    student = spec.build(model.spec | own, stored[0])
  except ValueError as error:
    raise LookupError(f"the teacher's network cannot be built ({error})") from None
  variables = [{'batch_stats': {}, **safe.unflatten(tensors)} for tensors in stored]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *variables)
  strategy = members.default_strategy(student.module.backbone.convolutional)

  def freeze(variables):
    return members.frozen(student.module.apply, variables, strategy)

  predictive = functools.partial(objectives.make('none').predictive, model.family)
  return Ensemble(Predictor(predictive, freeze, batch=batch), stacked, len(stored))
