"""Rows of hostile inputs, drawn by hypothesis with the strategies of the tests."""

import importlib.util
import sys

from benchmarks.injected import damaged
from benchmarks.injected.cases import Case, Row
from benchmarks.injected.runs import ROOT, RUN, Small, value_of

INPUTS, SLICE = 1000, 100
MEMORY = 6 * 2**30  # bytes of address space of a process that reads hostile inputs
STUDENT = ('config.json', 'weights.safetensors', 'model.stablehlo')


def attempts_of_tests():
  """Return the modules `attempts` and `hostile` of the tests, in the order of their imports."""
  hostile = _of_tests('hostile')
  return _of_tests('attempts'), hostile


def _of_tests(name: str):
  """Return a module of the tests, under the name by which they import it."""
  if name not in sys.modules:
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tests' / f'{name}.py')
    assert spec and spec.loader
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
  return sys.modules[name]


def _npz(small: Small):
  del small
  attempts, hostile = attempts_of_tests()
  return (hostile.npz(),), lambda content: attempts.file('npz', content)


def _csv(small: Small):
  del small
  attempts, hostile = attempts_of_tests()
  return (hostile.csv(),), lambda content: attempts.file('csv', content, target='y')


def _folder(small: Small):
  del small
  attempts, hostile = attempts_of_tests()
  return (hostile.image(),), attempts.folder


def _load(small: Small):
  from ensdistill import export

  attempts, _ = attempts_of_tests()
  folder = damaged.finished(small) / RUN / 'student'
  files = {name: (folder / name).read_bytes() for name in STUDENT}
  good = export.load(folder)
  return (attempts.students(files),), lambda found: attempts.student(found, good)


def _config(small: Small):
  del small
  from hypothesis import strategies as st

  attempts, hostile = attempts_of_tests()
  return (st.sampled_from(attempts.setting_names()), hostile.config_values()), attempts.setting


def _row(title: str, kind) -> Row:
  def case(small: Small, start: int, folder) -> list[Case]:
    if kind is _load:
      damaged.finished(small)  # forks, so not inside the fork

    def attempts():
      strategies, attempt = kind(small)
      return _attempted(strategies, attempt, start)

    found = value_of(attempts, folder, limit=MEMORY)
    return [Case(*case) for case in found]

  def planned(small: Small) -> int:
    del small
    return INPUTS

  return Row(title, planned, case, SLICE)


def _attempted(strategies, attempt, seed: int) -> list[Case]:
  """Attempt 100 inputs; one that fails is shrunk and ends the slice."""
  from hypothesis import HealthCheck, Phase, given, settings
  from hypothesis import seed as seeded
  from hypothesis.strategies import tuples

  outcomes = []

  @seeded(seed)
  @settings(
    max_examples=SLICE,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
  )
  @given(tuples(*strategies))
  def all_of_them(inputs):
    outcomes.append(attempt(*inputs))

  try:
    all_of_them()
  except BaseException as error:
    return [Case('another error', False, f'slice {seed}: {" ".join(str(error).split())[:400]}')]
  return [Case(outcome, True) for outcome in outcomes]


ROWS = {
  'npz': _row('npz files', _npz),
  'csv': _row('csv files', _csv),
  'folder': _row('folders of images', _folder),
  'load': _row("students' folders, sealed", _load),
  'config': _row('settings', _config),
}
