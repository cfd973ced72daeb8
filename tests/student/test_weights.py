"""Weights in fewer bits: bounds of the error, equal predictions after storing, damage."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import ensdistill
from ensdistill import export
from ensdistill.storage import safe, seals
from ensdistill.student import calibration, variants, weights

RANDOM = np.random.default_rng(0)
SHAPES = {
  'dense/kernel': (5, 3),
  'heads/kernel': (2, 5, 3),
  'conv/kernel': (3, 3, 5, 4),
  'deep/kernel': (2, 3, 3, 5, 4),
}
# Of members, whose variances differ by orders of magnitude.
MEMBERS = {'heads/bias': (2, 3), 'norm/var': (2, 3), 'layer/r': (2, 3), 'layer/b': (2, 3)}


def tensors():
  found = {name: RANDOM.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
  found['zeros/kernel'] = np.zeros((4, 2), np.float32)
  for name, shape in MEMBERS.items():
    found[name] = (RANDOM.random(shape) * [[1e-3], [1]]).astype(np.float32)
  return found | {'bias': np.ones(3, np.float32), 'count': np.ones((2, 2), np.int32)}


def test_int8_errs_by_half_a_step_of_each_output_channel():
  before = tensors()
  stored = weights.encoded(before, 'int8')
  after = weights.decoded(stored, 'int8')
  assert after.keys() == before.keys()
  for name, shape in SHAPES.items():
    scale = stored[f'{name}:scale']
    members = shape[0] if len(shape) in (3, 5) else 1
    assert scale.size == members * shape[-1] and stored[name].dtype == np.int8
    assert (np.abs(before[name] - after[name]) <= scale / 2 * (1 + 1e-5)).all()
    assert np.abs(stored[name]).max() == 127
  for name in ('zeros/kernel', 'bias', 'count', *MEMBERS):
    np.testing.assert_array_equal(after[name], before[name])
  again = weights.encoded(after, 'int8')
  assert all(np.array_equal(again[name], stored[name]) for name in SHAPES)


def test_bfloat16_rounds_as_jax_does():
  before = tensors()
  after = weights.decoded(weights.encoded(before, 'bfloat16'), 'bfloat16')
  for name in SHAPES:
    expected = jnp.asarray(before[name]).astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_array_equal(after[name], expected)
  for name in ('bias', *MEMBERS):
    np.testing.assert_array_equal(after[name], before[name])


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  config = tiny.config(student__kind='multi_head', student__members=3, objective__name='members')
  plan = tiny.plan(config, tiny.dataset(), tmp_path_factory.mktemp('runs'))
  export.save_all(plan, tiny.untrained(plan)[1])
  return export.load(plan.folder / 'student')


@pytest.mark.parametrize('form', ['int8', 'bfloat16'])
def test_a_variant_is_stored_and_predicts_the_same(model, form, tmp_path):
  variant = variants.make(model, form)
  variant = variant.with_calibration(calibration.of_student(variant, tiny.dataset()))
  variant.save(tmp_path)
  loaded, x = export.load(tmp_path), tiny.dataset().test.x
  assert jax.tree.all(jax.tree.map(np.array_equal, variant.variables, loaded.variables))
  np.testing.assert_array_equal(loaded.predict(x).probs, variant.predict(x).probs)
  np.testing.assert_allclose(loaded.predict(x).probs, model.predict(x).probs, atol=0.02)
  assert not np.array_equal(loaded.predict(x).probs, model.predict(x).probs)
  assert loaded.calibration.examples == len(tiny.dataset().valid.y)
  loaded.save(tmp_path / 'again')
  first, again = ((p / 'weights.safetensors').read_bytes() for p in (tmp_path, tmp_path / 'again'))
  assert first == again
  with pytest.raises(ValueError, match=f'the student has {form} weights'):
    variants.make(loaded, 'int8')
  found = variants.loss(model, variant, tiny.dataset())
  assert found.examples == 24 and 0 < found.largest < 0.02
  log_probs = np.asarray(variant.predictive(x).log_probs(), np.float64)
  nll = -log_probs[np.arange(24), tiny.dataset().test.y].mean()
  assert found.metrics['nll'][1] == pytest.approx(nll, rel=1e-5)


def changed(stored: dict, name: str):
  """Yield stored tensors with one that does not fit."""
  for value in (
    None,
    np.zeros(2, np.int8),
    np.zeros((2, 2), np.float32),
    np.zeros((9, 9), np.int8),
  ):
    found = {k: v for k, v in stored.items() if k != name}
    yield found if value is None else {**found, name: value}


@pytest.mark.parametrize('form', ['int8', 'bfloat16'])
def test_weights_that_do_not_fit_are_refused(model, form, tmp_path):
  variant = variants.make(model, form)
  variant.save(tmp_path)
  files = {name: (tmp_path / name).read_bytes() for name in export.FILES}
  stored = safe.parse_tensors(files['weights.safetensors'])
  for name in stored:
    for found in changed(stored, name):
      files['weights.safetensors'] = safe.tensors_content('x', found)
      seals.write(tmp_path, 'student', files)
      with pytest.raises(ensdistill.StudentError):
        export.load(tmp_path)
  files['weights.safetensors'] = safe.tensors_content('x', stored)
  spec = json.loads(files['config.json'])
  for value in (None, {}, {'form': 'int4'}, {'form': 1}, 'int8', {'form': []}):
    files['config.json'] = json.dumps({**spec, 'weights': value}).encode()
    seals.write(tmp_path, 'student', files)
    with pytest.raises(ensdistill.StudentError, match='weights'):
      export.load(tmp_path)
