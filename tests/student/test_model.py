"""The parts of a student: its members, its folder, copies; and hostile inputs."""

import copy
import pickle

import hostile
import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ensdistill
from ensdistill import export
from ensdistill.storage import seals

from .conftest import COLUMNS, TABLE

WRITTEN = ('config.json', 'weights.safetensors')  # JAX serialises a program in changing bytes
QUICK = settings(
  max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
LONG = settings(QUICK, max_examples=300, derandomize=False)


def test_members_are_those_of_the_mixture(table):
  found, p = table.members(TABLE), table.predict(TABLE)
  assert found.shape == (60, 3, 2)
  np.testing.assert_allclose(found, jax.nn.softmax(table.outputs(TABLE)), atol=1e-6)
  np.testing.assert_allclose(found.mean(1), p.probs, atol=1e-6)


def test_a_student_is_shown_in_a_line(table):
  assert repr(table) == "<student 'tiny': mlp, multi_head of 3, [N, 3] to 2 targets (categorical)>"


def test_one_network_has_no_members(image, unnamed):
  for model, x in ((image, np.zeros((1, 8, 8, 1))), (unnamed, TABLE)):
    with pytest.raises(ValueError, match=r'one network \(single, objective .mean.\) without'):
      model.members(x)


@pytest.mark.parametrize('name', ['table', 'unnamed', 'image', 'colour'])
def test_a_saved_student_is_the_same(name, request, tmp_path):
  model = request.getfixturevalue(name)
  model.save(tmp_path / 'one')
  loaded = ensdistill.load(tmp_path / 'one')
  loaded.save(tmp_path / 'two')
  for file in WRITTEN:
    assert (tmp_path / 'one' / file).read_bytes() == (tmp_path / 'two' / file).read_bytes()
  x = np.zeros((3, *model.spec['shape']), np.float32)
  for other in (loaded, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
    np.testing.assert_array_equal(model.outputs(x), other.outputs(x))
    assert (other.columns, other.classes) == (model.columns, model.classes)


def test_a_run_and_a_student_write_the_same_folder(tmp_path):
  import tiny

  plan = tiny.plan(tiny.config(), tiny.dataset(), tmp_path)
  distilled = tiny.untrained(plan)[1]
  export.save_all(plan, distilled)
  export.load(tmp_path / 'student').save(tmp_path / 'other')
  for file in WRITTEN:
    assert (tmp_path / 'student' / file).read_bytes() == (tmp_path / 'other' / file).read_bytes()
  settings = [
    seals.unseal((tmp_path / one / 'student.seal').read_bytes())['settings']
    for one in ('student', 'other')
  ]
  assert settings[0] == settings[1] != ''
  export.check(plan, pytest.fail)


SCALARS = st.one_of(
  st.floats(),
  st.integers(-(10**400), 10**400),
  st.text(max_size=3),
  st.none(),
  st.booleans(),
  st.binary(max_size=3),
  st.just(object()),
  st.complex_numbers(),
)
NAMES = st.sampled_from([*COLUMNS, *COLUMNS, 'other', '', 1, 'age\n'])
INPUTS = st.one_of(
  hostile.arrays(),
  SCALARS,
  st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12),
  st.lists(st.dictionaries(NAMES, SCALARS, max_size=4), max_size=3),
  st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, SCALARS)), max_size=3),
  st.lists(st.lists(st.floats(), min_size=3, max_size=3), max_size=4),
  st.lists(st.floats(width=32), min_size=64, max_size=64).map(lambda v: np.reshape(v, (8, 8))),
)


def attempt(models, x, scale, on_invalid) -> None:
  """Predict; a ValueError in one line is the only error, and predictions are finite or flagged."""
  for model in models:
    try:
      found = model.predict(x, scale=scale, on_invalid=on_invalid)
    except ValueError as error:
      assert '\n' not in str(error) and len(str(error)) < 600, error
      continue
    value = found.mean if found.probs is None else found.probs
    assert np.isfinite(value[~found.invalid]).all() and np.isnan(value[found.invalid]).all()
    if found.probs is not None:
      np.testing.assert_allclose(value[~found.invalid].sum(-1), 1, atol=1e-5)


ARGUMENTS = dict(
  x=INPUTS,
  scale=st.one_of(st.none(), st.none(), st.sampled_from([1 / 255, 0, -1, np.nan, 'x', 1e300])),
  on_invalid=st.sampled_from(['error', 'flag', 'flag', 'other']),
)


@QUICK
@given(**ARGUMENTS)
def test_hostile_inputs(table, unnamed, image, colour, x, scale, on_invalid):
  attempt((table, unnamed, image, colour), x, scale, on_invalid)


@pytest.mark.slow
@LONG
@given(**ARGUMENTS)
def test_many_hostile_inputs(table, unnamed, image, colour, x, scale, on_invalid):
  attempt((table, unnamed, image, colour), x, scale, on_invalid)


def test_block_sizes_share_the_variables(table):
  ready = table._ready
  leaves = [jax.tree.leaves(ready(batch)[1]) for batch in (1, 2, 2)]
  for one, *others in zip(*leaves):
    assert all(other is one for other in others)


def test_students_are_compared_as_objects(table):
  other = copy.copy(table)
  assert table == table and table != other and len({table, other}) == 2


def test_rows_of_predictions(table, unnamed):
  for student in (table, unnamed):
    whole = student.predict(TABLE)
    some = whole.rows(slice(10, 15))
    assert some.total.shape == (5,)
    np.testing.assert_array_equal(some.abstain(), whole.abstain()[10:15])
    np.testing.assert_array_equal(whole.rows(whole.total > 0).total, whole.total[whole.total > 0])
