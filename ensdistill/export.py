"""The students of a run: stored with what rebuilds them, and loaded without training code."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import jax
import numpy as np

from ensdistill import messages, objectives, plugins, processes, spec, stopping, students
from ensdistill.members import take
from ensdistill.storage import safe, seals
from ensdistill.storage.seals import StudentError
from ensdistill.student import calibration, card
from ensdistill.student import folder as folders
from ensdistill.student import inputs as student_inputs
from ensdistill.student import weights as stored_weights
from ensdistill.student.model import Model

FILES = ('config.json', 'weights.safetensors', 'model.stablehlo')  # README.md is not sealed

if TYPE_CHECKING:
  from ensdistill.config.build import Plan


def model(plan: Plan, distilled) -> Model:
  """Return the student of the first seed: its average, if it was trained for averaging."""
  views = distilled.method.student.views(take(distilled.variables, 0))
  student, variables = views[distilled.method.view]
  found = Model(specification(plan, student), student, variables)
  # Arrays have no test part of their own.
  return found.with_calibration(calibration.of_student(found, plan.dataset, tested=False))


def save_all(plan: Plan, distilled, made_by: dict | None = None, rows=()) -> dict[str, str]:
  """Store the students of a run: student/, student-averaged/, student-2/ of the second seed, ...

  rows: those of results.json, for the students' cards.
  Return {name: a sentence on the coverage of the first seed's student}, where it was measured.
  """
  covered: dict[str, str] = {}
  for seed in range(plan.config.seeds):
    views = distilled.method.student.views(take(distilled.variables, seed))
    for name, (student, variables) in views.items():
      stopping.check_together()
      results = card.rows(rows, name)
      folder = _folder(plan, name, seed)
      found = save(folder, plan, student, variables, made_by, results).calibration
      if found and found.test and seed == 0:
        covered[name] = card.sentence(found)
  return covered


def _folder(plan: Plan, name: str, seed: int) -> pathlib.Path:
  return plan.folder / (name if seed == 0 else f'{name}-{seed + 1}')


def save(
  folder: pathlib.Path,
  plan: Plan,
  student,
  variables,
  made_by: dict | None = None,
  results: list[dict] | None = None,
) -> Model:
  """Store config.json, weights.safetensors and model.stablehlo of one network, sealed."""
  description = specification(plan, student, made_by)
  if results:
    description['results'] = results
  made = Model(description, student, variables)
  made = made.with_calibration(calibration.of_student(made, plan.dataset))

  def write() -> None:
    folders.write(folder, made.spec, student, variables, _settings(plan))

  processes.by_first(write)
  return made


def _identity():
  from ensdistill.config import identity  # loading a student does not need it

  return identity


def _settings(plan: Plan) -> str:
  return _identity().fingerprint(_identity().decisive(plan.config))


def check(plan: Plan, note: Callable[[str], None]) -> None:
  """Raise StudentError unless all students of a finished run are there, whole and its own."""
  names = ['student']
  if plan.student.student.plain is not None:
    names.append('student-averaged')
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


def specification(plan: Plan, student: students.Student, made_by: dict | None = None) -> dict:
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
    'inputs': student_inputs.describe(dataset),
    seals.MADE_BY: made_by or _identity().made_by(config),
  } | ({'imports': imports} if imports else {})


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
    calibration.from_json(own.get('calibration'), own)
  try:
    places = [imports] if isinstance(imports, str) else imports
    changed = plugins.recall(own.get('imports', []), places)
  except plugins.Missing as error:
    raise StudentError(folder, error.problem, error.remedy) from None
  with _trouble(weights, 'is damaged', folder):
    tensors = stored_weights.decoded(
      safe.parse_tensors(found.files[weights.name]), stored_weights.form(own)
    )
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
  if folder.is_dir() and not (folder / FILES[1]).exists():
    from ensdistill.config import folder as claims  # loading a student does not need it

    if claims.is_run(folder):
      remedy = 'finish the run by its own command first'
      raise StudentError(folder, 'is the folder of a run that has no student yet', remedy)
  found = seals.read(folder, 'student', names, remedy=_remedy(folder), error=StudentError)
  if found is None:
    problem = 'holds no student (config.json is missing)' if folder.exists() else 'does not exist'
    raise StudentError(
      folder, problem, 'name the folder of a finished run, or the folder student inside it'
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
    reason = error if isinstance(error, ValueError) else repr(error)
    line = messages.one_line(reason, most=300)
    raise StudentError(path, f'{problem} ({line})', _remedy(folder)) from error
