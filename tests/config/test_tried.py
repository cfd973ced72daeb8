"""Mistakes in custom parts are one line, with its place in the file, before anything trains."""

import own_parts
import pytest
import tiny

from ensdistill import plugins
from ensdistill.config import recipes, tried

OBJECTIVE = """import jax
import jax.numpy as jnp
from ensdistill import objectives

def brier(*, power: float = 2.0):
  def loss(family, outputs_BMO, teacher_outputs_BMO):
    own_BK, theirs_BK = (z.mean(1) for z in (outputs_BMO, teacher_outputs_BMO))
    gap_BK = own_BK - theirs_BK
    return (gap_BK**power).sum(-1), {}

  return objectives.Objective('brier', loss)

objectives.OBJECTIVES['brier'] = brier
"""
PERTURBATION = """import jax
import jax.numpy as jnp
from ensdistill import perturb

def ascent(*, eta: float = 1.0):
  def apply(key, x, teacher, student, family, space):
    gradient = jax.grad(lambda x: teacher.outputs(x, jnp.arange(1)).sum())(x)
    return perturb.ascend(x, gradient, eta, space)

  return perturb.Perturbation('ascent', apply)

perturb.PERTURBATIONS['ascent'] = ascent
"""
STUDENT = """import flax.linen as nn
from ensdistill import nets, students

class Twin(nn.Module):
  backbone: nets.Backbone
  outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    x = self.backbone.normalise(x)
    return self.backbone.run(x, train, self.backbone.stages, self.outputs)[:, None]

def twin(backbone, outputs, members):
  return students.Student('twin', Twin(backbone, outputs), 1)

students.STUDENTS['twin'] = twin
"""
PARTS = {
  'objective': (OBJECTIVE, {'objective__name': 'brier'}),
  'perturbation': (PERTURBATION, {'perturb__name': 'ascent'}),
  'student': (STUDENT, {'student__kind': 'twin'}),
}


@pytest.fixture(autouse=True)
def no_imports():
  with own_parts.forgotten():
    yield


def check(text, tmp_path, **chosen):
  path = tmp_path / 'mine.py'
  path.write_text(text)
  plugins.load(str(path), 'test')
  tried.check(tiny.plan(tiny.config(**chosen), tiny.dataset()))


@pytest.mark.parametrize('part', PARTS)
def test_parts_that_work_pass(part, tmp_path):
  text, chosen = PARTS[part]
  check(text, tmp_path, **chosen)
  check(text, tmp_path, **chosen, student__microbatches=2)


WRONG = [
  ('objective', 'family, outputs_BMO', 'outputs_BMO', 'loss() takes 2 positional'),
  ('objective', 'sum(-1), {}', 'sum(), {}', 'a loss of shape [] for 2 examples'),
  ('objective', 'sum(-1), {}', 'sum(-1)', 'its loss returns shape [2]: return the loss of each'),
  ('objective', 'gap_BK**', 'gab_BK**', "name 'gab_BK' is not defined (mine.py, line 9)"),
  ('objective', "objectives.Objective('brier', loss)", 'loss', 'return objectives.Objective(...)'),
  ('objective', '  def loss', '  powr\n  def loss', "'brier' failed: NameError: name 'powr'"),
  ('perturbation', '(x, gradient, eta', '(x, gradient[:, 0], eta', 'failed on shapes'),
  ('perturbation', 'return perturb.ascend(', 'return x[:, 0]; (', 'must be [2, 8, 8, 1]'),
  ('student', '[:, None]', '', 'outputs of shape [2, 3] for 2 examples: the shape must be ['),
  ('student', 'students.Student(', 'Twin(backbone, outputs); (', 'return students.Student(...)'),
  ('student', 'backbone.run', 'backbone.rum', "no attribute 'rum' (mine.py, line 11)"),
]  # fmt: skip


@pytest.mark.parametrize('part, right, wrong, message', WRONG)
def test_mistakes_are_one_line_with_the_place(part, right, wrong, message, tmp_path):
  text, chosen = PARTS[part]
  assert text.count(right) == 1
  with pytest.raises(ValueError) as error:
    check(text.replace(right, wrong), tmp_path, **chosen)
  assert message in str(error.value) and '\n' not in str(error.value), str(error.value)


NETWORK = """import functools
import flax.linen as nn
from ensdistill import nets
from ensdistill.nets import stack

class Shift(nn.Module):
  layers: stack.Layers

  @nn.compact
  def __call__(self, x):
    shift = self.param('NAME', nn.initializers.zeros, (4,))
    return self.layers.dense(4, name='dense')(x.reshape(*x.shape[:-3], -1)) + shift.sum()

nets.NETWORKS['shifted'] = lambda shape, hidden=(8,): [('shift', Shift)]
"""


def test_a_parameter_that_no_member_can_be_taken_of_is_named_before_training(tmp_path):
  chosen = dict(network__name='shifted', student__kind='batch_ensemble', objective__name='members')
  chosen['teacher__members'] = 2
  check(NETWORK.replace('NAME', 'shift'), tmp_path, **chosen)
  with (
    own_parts.forgotten(),
    pytest.raises(
      ValueError, match=r"one member of network 'shifted' in student .*: give yours other names"
    ) as error,
  ):
    check(NETWORK.replace('NAME', 'b'), tmp_path, **chosen)
  assert '\n' not in str(error.value)


def test_methods_that_are_none():
  with pytest.raises(ValueError, match=r'is a dict: register recipes.Method\(about, settings\)'):
    recipes.METHODS['mine'] = {'objective.name': 'mean'}
  recipes.METHODS['mine'] = recipes.Method('mine', {'objective.nam': 'mean'})
  with pytest.raises(ValueError, match="'mine': unknown setting 'objective.nam': did you mean"):
    recipes.make('mine', 'digits')
