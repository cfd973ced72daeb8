"""The student as a product: weights, configuration and a compiled form that need no training code.

student = ensdistill.load('runs/kd_digits/student')
p = student.predict(x)  # p.probs, p.total, p.data, p.knowledge (numpy)
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import (
  data,
  families,
  mesh,
  nets,
  objectives,
  plugins,
  runtime,
  spec,
  stopping,
  students,
)
from ensdistill.evaluation.inference import Predictor, block_size
from ensdistill.members import take
from ensdistill.storage import safe, seals
from ensdistill.storage.seals import StudentError

FILES = ('config.json', 'weights.safetensors', 'model.stablehlo')  # README.md is not sealed

if TYPE_CHECKING:
  from ensdistill.config.build import Plan


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


def save_all(plan: Plan, distilled, made_by: dict | None = None) -> None:
  """Store the students of a run: student/, student-averaged/, student-2/ of the second seed, ..."""
  for seed in range(plan.config.seeds):
    views = distilled.method.student.views(take(distilled.variables, seed))
    for name, (student, variables) in views.items():
      stopping.check()
      save(_folder(plan, name, seed), plan, student, variables, made_by)


def _folder(plan: Plan, name: str, seed: int) -> pathlib.Path:
  return plan.folder / (name if seed == 0 else f'{name}-{seed + 1}')


def save(folder: pathlib.Path, plan: Plan, student, variables, made_by: dict | None = None) -> None:
  """Store config.json, weights.safetensors and model.stablehlo of one network, sealed."""
  found = specification(plan, student)
  content = safe.tensors_content(folder / 'weights.safetensors', safe.flatten(variables))
  found['sha256'] = hashlib.sha256(content).hexdigest()
  found[seals.MADE_BY] = made_by or _identity().made_by(plan.config)
  files: dict[str, bytes | str] = {
    'weights.safetensors': content,
    'model.stablehlo': stablehlo(found, student, variables),
    'config.json': seals.to_json(found),
  }
  seals.write(folder, 'student', files, settings=_settings(plan))


def _identity():
  from ensdistill.config import identity  # loading a student does not need it

  return identity


def _settings(plan: Plan) -> str:
  return _identity().fingerprint(_identity().decisive(plan.config))


def check(plan: Plan, note: Callable[[str], None]) -> None:
  """Raise StudentError unless all students of a finished run are there, whole and its own."""
  names = ['student'] + ['student-averaged'] * (plan.student.student.plain is not None)
  for seed, name in itertools.product(range(plan.config.seeds), names):
    folder = _folder(plan, name, seed)
    load(folder, note=note)
    facts = _read(folder, ['weights.safetensors']).facts
    if facts and facts.get('settings') != _settings(plan):
      raise StudentError(folder, 'is of other settings', _remedy(folder))


def stored(plan: Plan):
  """Return the variables of a run's students, stacked, from their sealed weights.

  None unless those of every seed are there; the other files of a student may be damaged.
  """
  found = []
  for seed in range(plan.config.seeds):
    folder = _folder(plan, 'student', seed)
    try:
      files, facts = _read(folder, ['weights.safetensors'])
      tensors = safe.parse_tensors(files['weights.safetensors'])
      spec.compare(plan.student.student, plan.dataset.shape, tensors)
    except ValueError:
      return None
    if not facts or facts.get('settings') != _settings(plan):
      return None
    found.append({'batch_stats': {}, **safe.unflatten(tensors)})
  return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def specification(plan: Plan, student: students.Student) -> dict:
  """Return everything that rebuilds a network and reads its outputs, as plain JSON types."""
  from ensdistill.config import build, imported, inputs  # loading a student does not need them
  from ensdistill.config.settings import given

  config, dataset = plan.config, plan.dataset
  imports = imported.stored(config)
  network, settings = build.network_settings(config.student.network, config.network)
  own = given(config.student, students.STUDENTS) if student.kind == config.student.kind else {}
  return {
    'format': spec.FORMAT,
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
  } | ({'imports': imports} if imports else {})


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


def load(
  folder,
  imports: str | Iterable[str] = (),
  *,
  note: Callable[[str], None] = seals.print_error,
) -> Model:
  """Return the student that a run left in `folder`, ready to predict.

  Everything is checked before anything is computed: the seal, config.json, and names, shapes and
  types of all tensors. Raises StudentError, with the damaged file and the remedy.
  imports: the files or modules that register the student's own parts, if it has any, as
    'my_method.py', 'package.module' or 'my_network.py:function'. Nothing else is imported: a
    student's folder by itself runs no code.
  note: called with a line if the folder was made before there were seals, or if the source of an
    import has changed since the training.
  """
  folder = pathlib.Path(folder)
  found = _read(folder, FILES)
  config, weights = folder / 'config.json', folder / 'weights.safetensors'
  with _trouble(config, 'is damaged', folder):
    own = seals.parse(found.files[config.name])
    spec.check(own)
  try:
    places = [imports] if isinstance(imports, str) else imports
    changed = plugins.recall(own.get('imports', []), places)
  except plugins.Missing as error:
    raise StudentError(folder, error.problem, error.remedy) from None
  with _trouble(weights, 'is damaged', folder):
    tensors = safe.parse_tensors(found.files[weights.name])
    variables = safe.unflatten(tensors)
    digest = hashlib.sha256(found.files[weights.name]).hexdigest()
    if found.facts is None and own.get('sha256') != digest:
      raise ValueError(f'its SHA-256 is {digest}, not that of config.json')
  with _trouble(config, 'does not describe weights.safetensors', folder):
    student = spec.build(own, tensors)
  if found.facts is None:
    note(seals.unsealed(folder))
  for line in changed:
    note(f'{folder}: {line}')
  return Model(own, student, variables)


def _read(folder: pathlib.Path, names) -> seals.Sealed:
  found = seals.read(folder, 'student', names, remedy=_remedy(folder), error=StudentError)
  if found is None:
    raise StudentError(
      folder, 'holds no student (config.json is missing)', 'give the folder named student of a run'
    )
  return found


def _remedy(folder: pathlib.Path) -> str:
  return f'remove {folder} and run the training command again, or copy the folder again'


@contextlib.contextmanager
def _trouble(path: pathlib.Path, problem: str, folder: pathlib.Path):
  """Turn every error into one StudentError: what is read may come from anyone."""
  try:
    yield
  except Exception as error:
    reason = str(error) if isinstance(error, ValueError) else repr(error)
    line = ' '.join(reason.split())[:300]
    raise StudentError(path, f'{problem} ({line})', _remedy(folder)) from error
