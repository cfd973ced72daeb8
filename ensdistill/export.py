"""The student as a product: weights, configuration and a compiled form that need no training code.

student = ensdistill.load('runs/kd_digits/student')
p = student.predict(x)  # p.probs, p.total, p.data, p.knowledge (numpy)
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, families, mesh, nets, objectives, runtime, students
from ensdistill.evaluation.inference import Predictor, block_size
from ensdistill.members import take
from ensdistill.storage import safe

if TYPE_CHECKING:
  from ensdistill.config.build import Plan

FORMAT = 1


class Prediction(NamedTuple):
  """Predictions for a batch of examples, and their uncertainty."""

  probs: np.ndarray | None  # [B, K]; None for regression
  mean: np.ndarray | None  # [B, D] in the target's own units; None for classification
  total: np.ndarray  # [B]
  data: np.ndarray  # [B]: noise that more training data would not remove
  knowledge: np.ndarray  # [B]: the disagreement of the ensemble's members


@dataclasses.dataclass(frozen=True)
class Model:
  """A finished student."""

  spec: dict
  student: students.Student
  variables: Any

  @functools.cached_property
  def family(self):
    """What the network's outputs mean."""
    return families.FAMILIES[self.spec['family']]

  @functools.cached_property
  def objective(self) -> objectives.Objective:
    """The objective of its training, which owns the predictive distribution."""
    return objectives.make(self.spec['objective'], **self.spec['objective_settings'])

  def predictor(self, batch: int) -> Predictor:
    """Return the predictor of this network in blocks of `batch` examples."""
    predictive = functools.partial(self.objective.predictive, self.family)
    units = self.spec['target_mean'], self.spec['target_std']
    return Predictor(predictive, self.student.freeze, units=units, batch=batch)

  @functools.cached_property
  def _ready(self):
    """The function from a block size to its predictor, and the variables on its devices."""

    @functools.lru_cache(maxsize=32)
    def ready(batch):
      predictor = self.predictor(batch)
      return predictor, mesh.place(self.variables, predictor.sharding)

    return ready

  @functools.cached_property
  def _compiled(self) -> set:
    return set()

  def _run(self, method, x, batch_size: int):
    """Return method(predictor, variables, x) in padded blocks; a first call uses the cache."""
    x = np.asarray(x)
    if x.shape[1:] != tuple(self.spec['shape']):
      raise ValueError(f'inputs have shape {x.shape[1:]}, the student takes {self.spec["shape"]}')
    batch = block_size(len(x), batch_size)
    predictor, variables = self._ready(batch)
    program = method, batch
    new = program not in self._compiled
    with runtime.cached() if new else contextlib.nullcontext():
      result = method(predictor, variables, x)
    self._compiled.add(program)
    return result

  def outputs(self, x, batch_size: int = 500) -> np.ndarray:
    """Return the network's raw outputs [N, M, O] for inputs as the data set stores them."""
    return self._run(Predictor.outputs, x, batch_size)

  def predictive(self, x, batch_size: int = 500):
    """Return the predictive distribution, in the target's units."""
    return self._run(Predictor.__call__, x, batch_size)

  def predict(self, x, batch_size: int = 500) -> Prediction:
    """Return probabilities (or means) and uncertainties, as numpy arrays.

    The inputs go through in blocks of `batch_size` examples. Fewer examples are padded to the next
    power of two, so a few compiled programs serve all sizes.
    """
    if self.family.has_classes:
      found = self._run(Predictor.probabilities, x, batch_size)
      return Prediction(found.probs, None, found.total, found.data, found.knowledge)
    from ensdistill.metrics import regression  # imports SciPy, which classifiers do not need

    # In float64: in single precision a large target's mean hides what members differ by.
    predictive = self.predictive(x, batch_size)
    kinds = regression.uncertainties(predictive).values()
    return Prediction(None, regression.host(predictive).mean(), *map(np.asarray, kinds))


def model(plan: Plan, distilled) -> Model:
  """Return the student of the first seed: its average, if it was trained for averaging."""
  views = distilled.method.student.views(take(distilled.variables, 0))
  student, variables = views[distilled.method.view]
  return Model(specification(plan, student), student, variables)


def save_all(plan: Plan, distilled) -> None:
  """Store the students of a run: student/, student-averaged/, student-2/ of the second seed, ..."""
  for seed in range(plan.config.seeds):
    views = distilled.method.student.views(take(distilled.variables, seed))
    for name, (student, variables) in views.items():
      folder = plan.folder / (name if seed == 0 else f'{name}-{seed + 1}')
      save(folder, plan, student, variables)


def save(folder: pathlib.Path, plan: Plan, student: students.Student, variables) -> None:
  """Store config.json, weights.safetensors and model.stablehlo of one network."""
  spec = specification(plan, student)
  folder.mkdir(parents=True, exist_ok=True)
  digest = safe.save_tensors(folder / 'weights.safetensors', safe.flatten(variables))
  safe.write_atomic(folder / 'model.stablehlo', stablehlo(spec, student, variables))
  spec['sha256'] = digest
  safe.write_atomic(folder / 'config.json', json.dumps(spec, indent=2) + '\n')


def specification(plan: Plan, student: students.Student) -> dict:
  """Return everything that rebuilds a network and reads its outputs, as plain JSON types."""
  from ensdistill.config import build, inputs  # loading a student does not need them
  from ensdistill.config.settings import given

  config, dataset = plan.config, plan.dataset
  network, settings = build.network_settings(config.student.network, config.network)
  own = given(config.student, students.STUDENTS) if student.kind == config.student.kind else {}
  return {
    'format': FORMAT,
    'name': config.name,
    'data': dataset.name,
    'data_settings': inputs.data_settings(config.data) | {'seed': config.seed},
    'shape': list(dataset.train.x.shape[1:]),
    'dtype': str(dataset.train.x.dtype),
    'classes': list(dataset.classes) if dataset.classes else None,
    'family': dataset.family,
    'targets': dataset.targets,
    'target_mean': list(dataset.target_mean),
    'target_std': list(dataset.target_std),
    'mean': list(dataset.mean),
    'std': list(dataset.std),
    'network': {'name': network, 'dtype': config.network.dtype} | settings,
    'student': {'kind': student.kind, 'members': student.size} | own,
    'objective': config.objective.name,
    'objective_settings': given(config.objective, objectives.OBJECTIVES),
  }


def stablehlo(spec: dict, student: students.Student, variables) -> bytes:
  """Return the forward pass for any batch size, on CPU, CUDA and TPU; weights are its arguments.

  Convolutions are exported in the plain form.
  """
  from jax import export

  module = nets.with_form(student.module, 'plain')

  def forward(variables, x):
    return module.apply(variables, data.as_input(x))

  x = jax.ShapeDtypeStruct((*export.symbolic_shape('b'), *spec['shape']), jnp.dtype(spec['dtype']))
  exported = export.export(jax.jit(forward), platforms=('cpu', 'cuda', 'tpu'))(variables, x)
  return bytes(exported.serialize())


def load(folder) -> Model:
  """Return the student that a run left in `folder`, ready to predict."""
  folder = pathlib.Path(folder)
  try:
    spec = json.loads((folder / 'config.json').read_text())
  except FileNotFoundError:
    raise FileNotFoundError(
      f'{folder} holds no student (config.json is missing): give the folder named student of a run'
    ) from None
  except ValueError as error:
    raise ValueError(f'{folder}/config.json is damaged: {error}') from error
  if not isinstance(spec, dict):
    raise ValueError(f'{folder}/config.json is damaged: it holds a {type(spec).__name__}')
  if spec.get('format') != FORMAT:
    raise ValueError(
      f'{folder}: format {spec.get("format")!r} cannot be read; this version reads format {FORMAT}'
    )
  family = families.FAMILIES[spec['family']]
  backbone = nets.build(shape=spec['shape'], mean=spec['mean'], std=spec['std'], **spec['network'])
  objective = objectives.make(spec['objective'], **spec['objective_settings'])
  student = students.make(
    backbone=backbone, outputs=objective.width(family, spec['targets']), **spec['student']
  )
  tensors = safe.load_tensors(folder / 'weights.safetensors', expected_sha256=spec['sha256'])
  return Model(spec, student, safe.unflatten(tensors))
