"""The student as a product: weights, configuration and a compiled form that need no training code.

student = ensdistill.load('runs/kd_digits/student')
p = student.predict(x)          # p.probs, p.total, p.data, p.knowledge (numpy)
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, families, metrics, nets, objectives, students
from ensdistill.config import build
from ensdistill.config.settings import given
from ensdistill.evaluation import inference
from ensdistill.storage import safe

FORMAT = 1


class Prediction(NamedTuple):
  """What a model says of each example, and how unsure it is."""

  probs: np.ndarray | None  # [B, K]; None for regression
  mean: np.ndarray | None  # [B, D] in the target's own units; None for classification
  total: np.ndarray  # [B]
  data: np.ndarray  # [B]: noise that more training data would not take away
  knowledge: np.ndarray  # [B]: what the ensemble's members disagree on


@dataclasses.dataclass(frozen=True)
class Model:
  """A finished student."""

  spec: dict
  student: students.Student
  variables: Any

  @functools.cached_property
  def _forward(self):
    return jax.jit(functools.partial(_outputs, self.student.module))

  def outputs(self, x, batch_size: int = 500) -> np.ndarray:
    """The network's raw outputs [N, M, O] for inputs as the data set holds them."""
    x = np.asarray(x)
    if x.shape[1:] != tuple(self.spec['shape']):
      raise ValueError(f'inputs have shape {x.shape[1:]}, the student takes {self.spec["shape"]}')
    blocks = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
    return np.concatenate([np.asarray(self._forward(self.variables, block)) for block in blocks])

  def distribution(self, outputs):
    """What the objective takes the network's outputs to mean."""
    family = families.FAMILIES[self.spec['family']]
    objective = objectives.make(self.spec['objective'], **self.spec['objective_settings'])
    return objective.predictive(family, outputs)

  def predictive(self, x, batch_size: int = 500):
    """The predictive distribution for inputs as the data set holds them, in the target's units."""
    predictive = jax.device_get(self.distribution(jnp.asarray(self.outputs(x, batch_size))))
    return inference.in_units(predictive, self.spec['target_mean'], self.spec['target_std'])

  def predict(self, x, batch_size: int = 500) -> Prediction:
    """Probabilities (or means) and uncertainties, as numpy arrays."""
    predictive = self.predictive(x, batch_size)
    if self.spec['family'] == 'categorical':
      probs, mean = np.exp(np.asarray(predictive.log_probs())), None
      kinds = predictive.total(), predictive.data(), predictive.knowledge()
    else:  # in float64: in single precision a large target's mean hides what members differ by
      probs, mean = None, metrics.regression.host(predictive).mean()
      kinds = metrics.regression.uncertainties(predictive).values()
    return Prediction(probs, mean, *(np.asarray(kind) for kind in kinds))


def _outputs(module, variables, x):
  return module.apply(variables, data.as_input(x))


def save_all(folder: pathlib.Path, config, dataset, distilled) -> None:
  """Every student of a run: student/, student-averaged/, and student-2/ ... of further seeds."""
  for i in range(config.seeds):
    variables = jax.tree.map(lambda leaf: leaf[i], distilled.variables)  # noqa: B023
    for name, (student, own) in distilled.method.student.views(variables).items():
      target = folder / (name if i == 0 else f'{name}-{i + 1}')
      save(target, config, dataset, distilled.method, student, own)


def save(folder: pathlib.Path, config, dataset, method, student, variables) -> None:
  """config.json, weights.safetensors and model.stablehlo of one network."""
  network, settings = build.network_settings(config.student.network, config.network)
  kind = student.kind
  spec = {
    'format': FORMAT,
    'name': config.name,
    'data': dataset.name,
    'data_settings': build.data_settings(config.data) | {'seed': config.seed},
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
    'student': {'kind': kind, 'members': student.size}
    | (given(config.student, students.STUDENTS) if kind == config.student.kind else {}),
    'objective': config.objective.name,
    'objective_settings': given(config.objective, objectives.OBJECTIVES),
  }
  folder.mkdir(parents=True, exist_ok=True)
  digest = safe.save_tensors(folder / 'weights.safetensors', safe.flatten(variables))
  safe.write_atomic(folder / 'model.stablehlo', _stablehlo(spec, student, variables))
  spec['sha256'] = digest
  safe.write_atomic(folder / 'config.json', json.dumps(spec, indent=2) + '\n')


def _stablehlo(spec, student, variables) -> bytes:
  """The forward pass for any batch size, for CPU, CUDA and TPU; the weights are its arguments.

  Convolutions are plain ones, whatever suits the machine that exports.
  """
  from jax import export

  module = nets.with_form(student.module, 'plain')

  x = jax.ShapeDtypeStruct((*export.symbolic_shape('b'), *spec['shape']), jnp.dtype(spec['dtype']))
  forward = jax.jit(functools.partial(_outputs, module))
  exported = export.export(forward, platforms=('cpu', 'cuda', 'tpu'))(variables, x)
  return bytes(exported.serialize())


def load(folder) -> Model:
  """A student that a run left in `folder`, ready to predict."""
  folder = pathlib.Path(folder)
  try:
    spec = json.loads((folder / 'config.json').read_text())
  except FileNotFoundError:
    raise FileNotFoundError(
      f'{folder} holds no student (config.json is missing): give the folder named student of a run'
    ) from None
  if spec.get('format') != FORMAT:
    raise ValueError(f'{folder}: format {spec.get("format")!r} is not the {FORMAT} that this reads')
  family = families.FAMILIES[spec['family']]
  backbone = nets.build(shape=spec['shape'], mean=spec['mean'], std=spec['std'], **spec['network'])
  objective = objectives.make(spec['objective'], **spec['objective_settings'])
  student = students.make(
    backbone=backbone, outputs=objective.width(family, spec['targets']), **spec['student']
  )
  tensors = safe.load_tensors(folder / 'weights.safetensors', expected_sha256=spec['sha256'])
  return Model(spec, student, safe.unflatten(tensors))
