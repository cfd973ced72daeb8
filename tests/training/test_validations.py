"""When a stage validates: evenly, or at the epochs that a recipe names."""

import pytest
import tiny

from ensdistill import data
from ensdistill.training import validations

DATA = tiny.dataset()


def test_validations_of_the_papers():
  """Paper 4: epochs 1, 20, 40, ..., 180 to 200. Paper 3: 1, 30, ..., 270 to 300."""
  found = validations.at_steps('first,every=20,tail=0.1', 2000, 10)
  assert sorted(step / 10 for step in found) == [1, *range(20, 180, 20), *range(180, 201)]
  found = validations.at_steps('first,every=30,tail=0.1', 300 * 7, 7)
  assert sorted(step / 7 for step in found) == [1, *range(30, 270, 30), *range(270, 301)]


@pytest.mark.parametrize(
  'text, expected',
  [
    ('first', {4, 10}),
    ('every=1', {4, 8, 10}),  # the last epoch is cut off by the end of the stage
    ('every=9', {10}),
    ('tail=1', {4, 8, 10}),
    ('tail=0.3', {10}),
  ],
)
def test_the_last_step_is_always_validated(text, expected):
  assert validations.at_steps(text, 10, 4) == expected


@pytest.mark.parametrize('text', ['last', 'every', 'every=0', 'every=x', 'tail=2', 'first=1', ''])
def test_a_wrong_value_is_named_with_what_is_allowed(text):
  with pytest.raises(ValueError, match=r"validate='.*' is none of 'first', 'every=N' .*tail=S"):
    validations.parse(text)


def test_the_setting_reaches_the_loop():
  config = tiny.config(validate='first,every=2', teacher__steps=12, teacher__batch_size=16)
  plan = tiny.plan(config, DATA)
  loop = plan.loop(config.teacher, plan.teacher, 2, None)
  assert loop.score_points == {3, 6, 12}  # epochs of three steps: 1, 2 and 4
  config.validate = None
  assert plan.loop(config.teacher, plan.teacher, 2, None).score_points is None


def test_auxiliary_inputs_of_the_student_do_not_move_the_validations_of_the_teacher():
  config = tiny.config(validate='every=1', teacher__steps=12, teacher__batch_size=16)
  config.student.update(steps=12, batch_size=16)
  joined = data.join(DATA, DATA.train.x)
  plan = tiny.plan(config, DATA, training=joined)
  assert plan.loop(config.teacher, plan.teacher, 2, None).score_points == {3, 6, 9, 12}
  assert plan.loop(config.student, plan.student, 1, None).score_points == {6, 12}


def test_the_tail_of_a_stage_is_not_cut_by_rounding():
  for epochs in range(1, 401):
    for tenths in range(1, 11):
      found = validations.at_steps(f'tail={tenths / 10}', epochs, 1)
      assert min(found) == max(1, -(-(10 - tenths) * epochs // 10))
