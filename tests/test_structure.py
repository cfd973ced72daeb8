"""The arrows of the design: what may import what, and who reads the configuration."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'ensdistill'
MODULES = sorted(PACKAGE.rglob('*.py'))
MATHEMATICS = ('families', 'numerics', 'objectives', 'perturb', 'predictive', 'metrics', 'nets')
ALLOWED = {*MATHEMATICS, 'names', 'members'}
STORY = ('run', 'main', 'distil', 'teacher', 'compare', 'export', 'report', 'build', 'config')


def imports(path):
  """Every module that a file imports, anywhere in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def part(name):
  """ensdistill.nets.layers -> nets."""
  names = name.split('.')
  return names[1] if names[0] == 'ensdistill' and len(names) > 1 else None


def of(*parts):
  return [p for p in MODULES if p.relative_to(PACKAGE).parts[0].removesuffix('.py') in parts]


@pytest.mark.parametrize('path', of(*MATHEMATICS), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_mathematics_knows_nothing_of_the_rest(path):
  found = list(imports(path))
  assert {part(name) for name in found} - {None} <= ALLOWED
  outside = {name.split('.')[0] for name in found} - {'ensdistill'}
  assert outside <= {
    *('jax', 'flax', 'numpy', 'scipy'),
    *('collections', 'dataclasses', 'functools', 'inspect', 'itertools', 'math', 'typing'),
  }


TRAINING = ('train', 'loop', 'members', 'mesh', 'evaluate', 'data', 'optim')


@pytest.mark.parametrize('path', of(*TRAINING))
def test_training_knows_neither_the_story_nor_the_configuration(path):
  found = list(imports(path))
  if path.name == 'evaluate.py':  # its command is imported where it is asked for
    found = [name for name in found if part(name) != 'evaluate_command']
  assert not {part(name) for name in found} & set(STORY)
  assert not any(name.startswith('ml_collections') for name in found)


def test_no_pickle_no_pmap_no_old_keys():
  for path in MODULES:
    text = path.read_text()
    for word in ('import pickle', 'allow_pickle=True', 'jax.pmap', 'PRNGKey('):
      assert word not in text, f'{path}: {word}'


def test_no_code_outside_the_axes_knows_a_method_by_name():
  methods = ('hydra', 'latentbe', 'end2', 'conf_ods', 'tdiv', 'proxy')
  for path in of('train', 'loop', 'run', 'distil', 'teacher', 'evaluate', 'compare', 'members'):
    tree = ast.parse(path.read_text())
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    code = [value for value in values if isinstance(value, str) and ' ' not in value]
    assert not [s for s in code if any(m in s.lower() for m in methods)], path
