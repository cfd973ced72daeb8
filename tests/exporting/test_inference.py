"""The function that every file computes, against the student."""

import dataclasses

import exported
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensdistill.exporting import inference

RENAMED = {'probabilities': 'probs'}


def outputs(model, x):
  function = inference.of(model)
  return jax.jit(function.closed())(x)


# The files of the others are compared with their students in quick tests.
QUICK = ('mean', 'batch_ensemble', 'proxy_dirichlet')
KINDS = [
  pytest.param(one, id=' '.join(map(str, one)), marks=[pytest.mark.slow] * (not {*QUICK} & {*one}))
  for one in exported.ALL
]


@pytest.mark.parametrize('kind', KINDS)
def test_it_computes_what_the_student_predicts(kind):
  model = exported.student(*kind, shape=(5,))
  x = exported.examples(model)
  found, p = outputs(model, x), model.predict(x)
  for name, values in found.items():
    if name not in ('members', 'variance'):
      expected = getattr(p, RENAMED.get(name, name))
      np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
  assert ('members' in found) == (model.student.size > 1)
  if 'members' in found:
    np.testing.assert_allclose(found['members'], model.members(x), rtol=1e-5, atol=1e-6)
  if 'variance' in found:
    np.testing.assert_allclose(found['variance'].sum(-1), p.total, rtol=1e-5)
  shapes = {name: values.shape[1:] for name, values in found.items()}
  assert inference.of(model).outputs() == shapes
  assert inference.expected(model, x).keys() == shapes.keys()


def test_bytes_are_images_from_0_to_255():
  model = exported.student(network='resnet', dtype='uint8')
  x = exported.examples(model)
  assert inference.of(model).dtype == np.uint8
  np.testing.assert_allclose(outputs(model, x)['probabilities'], model.predict(x).probs, atol=1e-5)


def test_a_large_target_does_not_hide_what_members_differ_by():
  model = exported.student('gaussian', 'multi_head', 3, 'members', shape=(5,), targets=1)
  far = {**model.spec, 'target_mean': [1e6], 'target_std': [10.0]}
  model = dataclasses.replace(model, spec=far)
  x = exported.examples(model)
  found, p = outputs(model, x), model.predict(x)
  np.testing.assert_allclose(found['knowledge'], p.knowledge, rtol=1e-4)


def test_layers_of_bfloat16_compute_in_float32():
  model = exported.student(network='resnet')
  backbone = dataclasses.replace(model.student.module.backbone, dtype=jnp.bfloat16)
  module = model.student.module.clone(backbone=backbone)
  rough = dataclasses.replace(model, student=dataclasses.replace(model.student, module=module))
  x = exported.examples(model)
  exact = outputs(model, x)['probabilities']
  np.testing.assert_array_equal(outputs(rough, x)['probabilities'], exact)
  gap = np.abs(rough.predict(x).probs - exact).max()
  assert gap > 1e-4  # so the file is compared with the student in float32
  np.testing.assert_allclose(inference.in_float32(rough).predict(x).probs, exact, atol=1e-5)
  assert inference.in_float32(model) is model


def test_a_file_says_what_it_takes_and_gives():
  model = exported.student('categorical', 'multi_head', 3, 'members', dtype='uint8')
  found = inference.description(model, None)
  assert found['input'] == {
    'shape': [8, 8, 1],
    'dtype': 'uint8',
    'range': [0, 255],
    'columns': None,
  }
  assert list(found['outputs']) == ['probabilities', 'total', 'data', 'knowledge', 'members']
  assert found['outputs']['members'] == [3, 3] and found['classes'][2] == 'class 2'
  assert len(found['weights_sha256']) == 64
