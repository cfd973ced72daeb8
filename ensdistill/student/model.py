"""A finished student: predictions with checked inputs, and their uncertainties.

student = ensdistill.load('runs/kd_digits/student')
p = student.predict(x)  # p.probs, p.total, p.data, p.knowledge (numpy)
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill import families, mesh, objectives, runtime, students
from ensdistill import spec as specs
from ensdistill.evaluation import cost
from ensdistill.evaluation.inference import Predictor
from ensdistill.predictive import GaussianMixture, Mixture
from ensdistill.storage import safe, seals
from ensdistill.student import calibration, card, inputs
from ensdistill.student import folder as folders
from ensdistill.student.calibration import Basis, Calibration


class Prediction(NamedTuple):
  """Predictions for a batch of examples, and their uncertainty."""

  probs: np.ndarray | None  # [B, K]; None for regression
  mean: np.ndarray | None  # [B, D] in the target's own units; None for classification
  total: np.ndarray  # [B]
  data: np.ndarray  # [B]: noise that more training data would not remove
  knowledge: np.ndarray  # [B]: the disagreement of the ensemble's members
  outside: np.ndarray | None = None  # bool [B]: rows of a table far outside the training range
  invalid: np.ndarray | None = None  # bool [B]: rows with NaN in every output, see on_invalid
  basis: Basis | None = None  # what the methods compute from

  def predict_set(self, coverage: float = 0.9, kind: str = 'lac') -> np.ndarray:
    """Return the classes of each prediction set, bool [B, K]; see `Model.predict_set`.

    Sets of invalid rows are empty.
    """
    found = calibration.sets(self._basis(), coverage, kind)
    return found if self.invalid is None else found & ~self.invalid[:, None]

  def quantiles(self, q) -> np.ndarray:
    """Return calibrated quantiles of regression; see `Model.quantiles`."""
    found = calibration.quantiles(self._basis(), q)
    if self.invalid is not None:
      found[..., self.invalid, :] = np.nan
    return found

  def abstain(self, rate: float = 0.05) -> np.ndarray:
    """Return for which examples the student abstains, because it is too uncertain: bool [B].

    The threshold is a value of `total` that at most the share `rate` of new examples exceeds, if
    these are like those of validation. Invalid rows are among them.
    """
    return calibration.abstain(self._basis(), self.total, rate)

  def rows(self, rows) -> 'Prediction':
    """Return the predictions of some rows: a slice, a mask or indices."""
    own = [None if value is None else value[rows] for value in self[:-1]]
    return Prediction._make([*own, self.basis and self.basis.rows(rows)])

  def _basis(self) -> Basis:
    if self.basis is None:
      raise ValueError('these predictions were not made by a student: call its predict')
    return self.basis


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
  """A finished student."""

  spec: dict
  student: students.Student
  variables: Any
  origin: Any = None  # the call of `distil` that made it, see student.reporting

  @functools.cached_property
  def family(self):
    """What the network's outputs mean."""
    return families.FAMILIES[self.spec['family']]

  @functools.cached_property
  def objective(self) -> objectives.Objective:
    """The objective of its training, which owns the predictive distribution."""
    return objectives.make(self.spec['objective'], **self.spec['objective_settings'])

  @property
  def classes(self) -> list[str] | None:
    """The names of the classes, in the order of the probabilities; None where they have none."""
    return self.spec['classes']

  @property
  def columns(self) -> list[str] | None:
    """The names of a table's columns, in the order of training; None where they have none."""
    return (self.spec.get('inputs') or {}).get('columns')

  def predictor(self, batch: int) -> Predictor:
    """Return the predictor of this network in blocks of `batch` examples."""
    predictive = functools.partial(self.objective.predictive, self.family)
    units = self.spec['target_mean'], self.spec['target_std']
    return Predictor(predictive, self.student.freeze, units=units, batch=batch)

  @functools.cached_property
  def _ready(self):
    """The function from a block size to its predictor, and the variables on its devices."""

    placed: dict = {}  # block sizes of equal sharding share the variables

    @functools.lru_cache(maxsize=32)
    def ready(batch):
      predictor = self.predictor(batch)
      if predictor.sharding not in placed:
        placed[predictor.sharding] = mesh.place(self.variables, predictor.sharding)
      return predictor, placed[predictor.sharding]

    return ready

  @functools.cached_property
  def _compiled(self) -> set:
    return set()

  def _run(self, method, accepted: inputs.Accepted, batch_size: int):
    """Return method(predictor, variables, x) in padded blocks; a first call uses the cache.

    An empty set runs one row, which is dropped. Results that are not finite are refused.
    """
    if batch_size < 1:
      raise ValueError(f'batch_size={batch_size} must be at least 1')
    x, size = accepted.x, len(accepted.x)
    batch = mesh.block_size(size, batch_size)
    predictor, variables = self._ready(batch)
    program = method, batch
    new = program not in self._compiled
    with runtime.cached() if new else contextlib.nullcontext():
      result = method(predictor, variables, x if size else np.zeros((1, *x.shape[1:]), x.dtype))
    self._compiled.add(program)
    return result if size else jax.tree.map(lambda leaf: leaf[:0], result)

  def _accepted(self, x, scale, on_invalid: str = 'error') -> inputs.Accepted:
    return inputs.accept(x, self.spec, scale=scale, on_invalid=on_invalid)

  def outputs(self, x, *, scale: float | None = None, batch_size: int = 500) -> np.ndarray:
    """Return the network's raw outputs [N, M, O]; for the arguments see `predict`."""
    return self._run(Predictor.outputs, self._accepted(x, scale), batch_size)

  def predictive(self, x, *, scale: float | None = None, batch_size: int = 500):
    """Return the predictive distribution, in the target's units; arguments as in `predict`."""
    return self._run(Predictor.__call__, self._accepted(x, scale), batch_size)

  def members(self, x, *, scale: float | None = None, batch_size: int = 500) -> np.ndarray:
    """Return each member's probabilities [N, M, K], or means [N, M, D] for regression.

    Raise ValueError if the student is one network without members.
    """
    if self.student.size > 1:
      p = self.predictive(x, scale=scale, batch_size=batch_size)
      if isinstance(p, Mixture):
        return np.exp(p.log_probs_BMK)
      if isinstance(p, GaussianMixture):
        return np.asarray(p.mean_BMD)
    raise ValueError(
      f'the student is one network ({self.spec["student"]["kind"]}, objective '
      f'{self.spec["objective"]!r}) without members: train one of several, such as hydra'
    )

  def predict(
    self,
    x,
    *,
    scale: float | None = None,
    on_invalid: str = 'error',
    calibrated: bool = False,
    batch_size: int = 500,
  ) -> Prediction:
    """Return probabilities (or means) and uncertainties, as numpy arrays.

    The inputs are checked against what the student was trained on; a ValueError says what is wrong
    with them. One example is a batch of one. Examples go through in blocks of `batch_size`, and
    fewer are padded to the next power of two, so a few compiled programs serve all sizes.

    Args:
      x: images [N, H, W, C], uint8 or floats in [0, 1]; or a table [N, D]: an array, a frame of
        pandas or polars or a list of dicts, whose columns are matched by name.
      scale: number that images are multiplied by first, such as 1/255 for floats from 0 to 255.
      on_invalid: 'error' refuses rows with NaN or infinity; 'flag' gives NaN in every output of
        such a row, and marks it in `invalid`.
      calibrated: scale the probabilities by the temperature that was fitted on validation data.
        The uncertainties stay those of the network's own distribution.
      batch_size: examples of one block.
    """
    accepted = self._accepted(x, scale, on_invalid)
    values, found = self._values(accepted, batch_size)
    invalid = inputs.with_overflow(accepted, values, on_invalid)
    if invalid.any():
      values = [value if value is None else _with(value, invalid, np.nan) for value in values]
      neutral = -math.log(self.spec['targets']) if self.family.has_classes else 1.0
      found = jax.tree.map(lambda leaf: _with(leaf, invalid, neutral), found)
    basis = self._known(found)
    if calibrated:
      values[0] = _with(calibration.apply_temperature(basis), invalid, np.nan)
    return Prediction._make([*values, accepted.outside, invalid, basis])

  def _values(self, accepted: inputs.Accepted, batch_size: int) -> tuple[list, dict]:
    """Return probabilities, means and uncertainties, and what calibration is computed from."""
    if self.family.has_classes:
      found = self._run(Predictor.probabilities, accepted, batch_size)
      values = [found.probs, None, found.total, found.data, found.knowledge]
      return values, {'log_probs': found.log_probs}
    from ensdistill.metrics import regression  # imports SciPy, which classifiers do not need

    # In float64: in single precision a large target's mean hides what members differ by.
    predictive = self._run(Predictor.__call__, accepted, batch_size)
    distribution, kinds = regression.host(predictive), regression.uncertainties(predictive)
    values = [None, distribution.mean(), *map(np.asarray, kinds.values())]
    return values, {'distribution': distribution}

  @functools.cached_property
  def calibration(self) -> Calibration | None:
    """Temperature, thresholds and offsets from validation data; None without them."""
    return calibration.from_json(self.spec.get('calibration'), self.spec)

  @property
  def why_uncalibrated(self) -> str:
    """Why there is no calibration, where there is none, and the remedy."""
    known = 'calibration' in self.spec
    return calibration.NO_VALIDATION if known else calibration.UNKNOWN

  def _known(self, found: dict) -> Basis:
    return Basis(self.calibration, self.why_uncalibrated, **found)

  def basis(self, x) -> tuple[Basis, np.ndarray]:
    """Return what calibration is computed from, and the total uncertainty [N], of a data set.

    x: inputs as a data set stores them; images may stay in their files.
    """
    whole = inputs.Accepted(x, np.zeros(len(x), bool), None)
    values, found = self._values(whole, 500)
    return self._known(found), values[2]

  def predict_set(self, x, coverage: float = 0.9, *, kind: str = 'lac', **settings) -> np.ndarray:
    """Return the classes of each example's prediction set: bool [B, K].

    A set holds the class of a new example with at least the probability `coverage`, if examples are
    like those of validation (split conformal prediction). It may be empty.

    Args:
      x: inputs, as in `predict`.
      coverage: between 0 and 1; rounded up to one of `calibration.LEVELS`.
      kind: 'lac' (the smallest sets on average) or 'aps' (larger ones where the student is unsure).
      settings: those of `predict`.
    """
    return self.predict(x, **settings).predict_set(coverage, kind)

  def quantiles(self, x, q, **settings) -> np.ndarray:
    """Return calibrated quantiles of regression: [B, D] for one q, [Q, B, D] for several.

    A new target lies at or below its q-quantile with at least the probability q for q > 1/2, and at
    most q for q < 1/2, if examples are like those of validation. So the quantiles 0.05 and 0.95 are
    an interval of 90 %. Levels are rounded outward to one of `calibration.LEVELS`. settings are
    those of `predict`.
    """
    return self.predict(x, **settings).quantiles(q)

  def calibrate(self, x, y) -> 'Model':
    """Return this student with a calibration from labelled examples.

    Args:
      x: inputs as in `predict`, of examples that it was not trained on.
      y: labels [N] from 0, or names of classes; or regression targets [N] or [N, D].
    """
    from ensdistill.student import reporting  # imports the training code

    p = self.predict(x)
    y = reporting.targets(self, y, len(p.total))
    return self.with_calibration(calibration.fit(p._basis(), p.total, y))

  def with_calibration(self, found: Calibration | None) -> 'Model':
    """Return this student with another calibration."""
    return dataclasses.replace(self, spec={**self.spec, 'calibration': calibration.to_json(found)})

  @property
  def card(self) -> str:
    """The model card, in Markdown: data, quality, calibration, limits, how to load it."""
    return card.text(self.spec, cost.parameters(self.variables))

  def save(self, folder: str | pathlib.Path) -> None:
    """Store the student in a folder, which `ensdistill.load` reads."""
    made_by = self.spec.get(seals.MADE_BY, {})
    settings = str(made_by.get('fingerprints', {}).get('config', ''))
    folders.write(folder, self.spec, self.student, self.variables, settings)

  def report(
    self, x, y, folder: str | pathlib.Path, *, teacher=None, check_order: bool = True
  ) -> dict:
    """Write the report of this student on test data; return the content of results.json.

    The folder holds report.html with its tables and pictures, and results.json.

    Args:
      x: inputs, as in `predict`.
      y: labels, as numbers or names of classes; or regression targets.
      folder: the folder of the report.
      teacher: outputs [N, M, O] of the ensemble for x, or its members as functions, as in
        `distil`. Without it the rows of the ensemble are there if the student comes from `distil`
        with functions.
      check_order: refuse outputs whose members are all at chance, as their rows are then in another
        order; False accepts them, for targets that can hardly be predicted.
    """
    from ensdistill.student import reporting  # imports the training code

    return reporting.report(self, x, y, folder, teacher, check_order)

  def __repr__(self) -> str:
    kind, shape = self.spec['student']['kind'], ', '.join(map(str, ['N', *self.spec['shape']]))
    return (
      f'<student {self.spec["name"]!r}: {self.spec["network"]["name"]}, {kind} of '
      f'{self.student.size}, [{shape}] to {self.spec["targets"]} targets ({self.family.name})>'
    )

  def __reduce__(self):
    """Pickle and copy the description and the weights; the network is built again from them."""
    tensors = {name: np.asarray(leaf) for name, leaf in safe.flatten(self.variables).items()}
    return _rebuilt, (self.spec, tensors)


def _rebuilt(spec: dict, tensors: dict[str, np.ndarray]) -> Model:
  return Model(spec, specs.build(spec, tensors), safe.unflatten(tensors))


def _with(values, rows, value: float) -> np.ndarray:
  """Return values with another one in some rows."""
  values = np.array(values)
  values[rows] = value
  return values
