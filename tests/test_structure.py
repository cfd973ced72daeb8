"""The arrows of ARCHITECTURE.md: what may import what, and who reads the configuration.

Imports inside functions and under TYPE_CHECKING count like all others.
"""

import ast
import pathlib

import pytest

from ensdistill import cli

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / 'ensdistill'

# From the top of the house to the bottom: a unit imports from lower floors, and from itself.
# A unit is a module or a folder of the package; `X.__main__` is the door of a `python -m` command.
FLOORS = (
  {'__main__', 'evaluate', 'data.__main__', 'report.__main__'},
  {'cli'},
  {'main', 'ensdistill'},
  {'commands', 'sklearn'},
  {'sweep', 'serving'},
  {'run', 'teachers', 'library', 'prediction'},
  {'resume'},
  {'export', 'exporting'},
  {'student'},
  {'distillation', 'compare', 'report'},
  {'teacher', 'planning'},
  {'given'},
  {'config'},
  {'training'},
  {'evaluation'},
  {'method', 'data', 'logs', 'metrics', 'spec'},
  {'plugins'},
  {'objectives', 'students', 'perturb', 'storage'},
  {'families', 'nets', 'mesh'},
  {'predictive', 'members'},
  {'imports', 'memory', 'names', 'numerics', 'paths', 'runtime', 'stopping'},
  {'processes'},
  {'messages'},
)
MATHEMATICS = {'families', 'numerics', 'objectives', 'perturb', 'predictive', 'metrics', 'nets'}
LIBRARIES = {'jax', 'flax', 'numpy', 'scipy'}
STANDARD = {
  'abc', 'collections', 'contextlib', 'contextvars', 'dataclasses', 'functools', 'inspect',
  'itertools', 'math', 'typing',
}  # fmt: skip


def modules() -> dict[str, pathlib.Path]:
  """Return {'nets.layers': file} of the package; the package itself is 'ensdistill'."""
  found = {}
  for path in sorted(PACKAGE.rglob('*.py')):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
    found[name or 'ensdistill'] = path
  return found


MODULES = modules()


def imports(path: pathlib.Path) -> set[str]:
  """Return the full names of everything that a file imports, anywhere in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: imports are absolute'
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


def arrows(name: str) -> set[str]:
  """Return the modules of the package that a module imports; the commands by their names."""
  found = {module for module, _ in cli.COMMANDS.values()} if name == 'cli' else set()
  for full in imports(MODULES[name]):
    if full.split('.')[0] == 'ensdistill':
      inner = full.removeprefix('ensdistill').removeprefix('.')
      while inner and inner not in MODULES:  # a name within a module
        inner = inner.rpartition('.')[0]
      found.add(inner or 'ensdistill')
  return found - {name}


def unit(name: str) -> str:
  """Return the unit of a module: nets.layers -> nets."""
  return name if name.endswith('__main__') else name.split('.')[0]


def floor(name: str) -> int:
  """Return the floor of a module's unit, counted from the top."""
  for number, units in enumerate(FLOORS):
    if unit(name) in units:
      return number
  raise AssertionError(f'{name} is on no floor: add it to FLOORS and to ARCHITECTURE.md')


def test_the_graph_is_read_as_python_reads_it():
  assert {'training.step', 'training.loop'} <= arrows('training.stage')
  assert 'data.sources.folder' in arrows('data.sources')
  assert unit('data.__main__') == 'data.__main__' and unit('data.sources.toys') == 'data'


@pytest.mark.parametrize('name', MODULES)
def test_imports_run_downward(name):
  upward = [
    other for other in arrows(name) if unit(other) != unit(name) and floor(other) <= floor(name)
  ]
  assert not upward, f'{name} imports upward or sideways: {upward}'


def test_there_is_no_circle():
  done: set[str] = set()

  def visit(name, above):
    assert name not in above, ' -> '.join([*above[above.index(name) :], name])
    if name not in done:
      for other in sorted(arrows(name)):
        visit(other, [*above, name])
      done.add(name)

  for name in MODULES:
    visit(name, [])


@pytest.mark.parametrize('name', [n for n in MODULES if unit(n) in MATHEMATICS])
def test_the_mathematics_knows_nothing_of_the_rest(name):
  assert {unit(other) for other in arrows(name)} <= MATHEMATICS | {'names', 'members', 'messages'}
  outside = {full.split('.')[0] for full in imports(MODULES[name])} - {'ensdistill'}
  assert outside <= LIBRARIES | STANDARD


@pytest.mark.parametrize('name', [n for n in MODULES if floor(n) > floor('config')])
def test_nothing_below_config_reads_the_configuration(name):
  tree = ast.parse(MODULES[name].read_text())
  arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
  assert not arguments & {'config', 'plan'}
  assert not any(full.startswith('ml_collections') for full in imports(MODULES[name]))


def test_one_place_trains_and_one_place_predicts():
  """No other module runs the loop, saves checkpoints or applies a network for evaluation."""
  for name, path in MODULES.items():
    text = path.read_text()
    if name not in ('training.stage', 'training.loop', 'storage.checkpoint'):
      assert 'Checkpointer(' not in text and 'loop.fit(' not in text, name
    chapters = ('compare', 'export', 'student', 'report', 'run', 'commands', 'teacher')
    if unit(name) in chapters:
      applied = text.count('.module.apply(')
      assert applied <= (name == 'student.folder'), name  # the exported forward pass itself


def test_no_pickle_no_pmap_no_old_keys_and_no_changed_path():
  for path in [*PACKAGE.rglob('*.py'), *ROOT.glob('experiments/**/*.py')]:
    text = path.read_text()
    for word in ('import pickle', 'allow_pickle=True', 'jax.pmap', 'PRNGKey(', 'sys.path'):
      assert word not in text, f'{path}: {word}'


def test_no_code_outside_the_axes_knows_a_method_by_name():
  methods = ('hydra', 'latentbe', 'end2', 'conf_ods', 'tdiv', 'proxy')
  units = ('training', 'evaluation', 'run', 'distillation', 'teacher', 'compare', 'members')
  for name, path in MODULES.items():
    if unit(name) in units:
      tree = ast.parse(path.read_text())
      values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
      code = [value for value in values if isinstance(value, str) and ' ' not in value]
      assert not [s for s in code if any(m in s.lower() for m in methods)], path


def test_what_outputs_mean_is_decided_in_families_alone():
  """No comparison with a family's name, no guess by attributes, elsewhere."""
  allowed = ('families', 'predictive')
  for name, path in MODULES.items():
    if unit(name) in allowed:
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Compare):
        values = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
        assert not {'categorical', 'gaussian'} & {v for v in values if isinstance(v, str)}, (
          f'{path}:{node.lineno}'
        )
      if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'hasattr':
        assert ast.unparse(node.args[1]) not in ("'log_probs'", "'affine'"), f'{path}:{node.lineno}'


def test_lambdas_are_few():
  lines = lambdas = 0
  for path in MODULES.values():
    text = path.read_text()
    lines += text.count('\n')
    lambdas += sum(isinstance(node, ast.Lambda) for node in ast.walk(ast.parse(text)))
  assert 1000 * lambdas <= 8 * lines, f'{1000 * lambdas / lines:.1f} lambdas in 1,000 lines'


def test_tests_mirror_the_package():
  """A test file lies where its module does, and stays readable."""
  for path in ROOT.glob('tests/**/*.py'):
    assert path.read_text().count('\n') <= 400, f'{path} has more than 400 lines: split it'
    folder = path.parent.relative_to(ROOT / 'tests')
    assert (PACKAGE / folder).is_dir(), f'{path}: ensdistill/{folder} does not exist'
