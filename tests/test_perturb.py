"""Perturbations: which members they compute, bounds, precision, settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from perturbed import UNIT, B, D, K, apply, categorical, gaussian, inputs, network, weights

from ensdistill import perturb
from ensdistill.members import Members


@pytest.mark.parametrize(
  'name,teacher_calls,student_calls',
  [('ods', [1], []), ('conf_ods', [1], []), ('tdiv', [1, 1], []), ('tdiv_sdiv', [1, 1], [1, 1])],
)
def test_only_the_members_that_are_needed_are_computed(name, teacher_calls, student_calls):
  seen_teacher, seen_student = [], []
  teacher, student = network(weights(4), seen_teacher), network(weights(4, 1), seen_student)
  apply(perturb.make(name), 0, teacher, student)
  assert (seen_teacher, seen_student) == (teacher_calls, student_calls)


@pytest.mark.parametrize('name,expected', [('ods', 1), ('tdiv', 1), ('tdiv_sdiv', 2)])
def test_only_the_members_with_a_gradient_are_differentiated(name, expected):
  backward = []

  @jax.custom_vjp
  def marked(x):
    return x

  def transpose(_, cotangent):
    backward.append(1)
    return (cotangent,)

  marked.defvjp(lambda x: (x, None), transpose)

  def watched(parameters):
    inner = network(parameters)
    return Members(inner.size, lambda x, index=None: inner.outputs(marked(x), index))

  apply(perturb.make(name), 0, watched(weights(4)), watched(weights(4, 1)))
  assert len(backward) == expected


@pytest.mark.parametrize('name', ['ods', 'conf_ods', 'tdiv', 'tdiv_sdiv'])
def test_computing_every_member_gives_the_same_inputs(name):
  def all_of(inner):
    return Members(inner.size, lambda x, index: inner.outputs(x)[:, index])

  teacher, student = network(weights(4)), network(weights(4, 1))
  few = apply(perturb.make(name), 3, teacher, student, space=UNIT)
  every = apply(perturb.make(name), 3, all_of(teacher), all_of(student), space=UNIT)
  np.testing.assert_allclose(few, every, atol=1e-6)


@pytest.mark.parametrize('name', ['ods', 'conf_ods', 'tdiv', 'tdiv_sdiv'])
def test_a_gradient_of_zero_leaves_the_input_where_it_is(name):
  constant = weights(1)[0], np.zeros((1, 16, K))  # no output depends on x
  same = network([np.repeat(w, 3, 0) for w in constant])
  x = inputs()
  moved = apply(perturb.make(name), 0, same, same, space=UNIT, x=x)
  np.testing.assert_array_equal(moved, x)


@pytest.mark.parametrize('name', ['gaussian', 'ods', 'conf_ods', 'tdiv', 'tdiv_sdiv'])
def test_inputs_stay_inside_the_space(name):
  space = perturb.Space(0.3, np.linspace(0.5, 0.7, D).astype(np.float32), 0.5)
  x = inputs().clip(0.3, 0.5)
  moved = apply(
    perturb.make(name), 0, network(weights(3)), network(weights(3, 1)), space=space, x=x
  )
  assert (moved >= np.float32(0.3)).all() and (moved <= space.high[None]).all()
  assert (moved == np.float32(0.3)).any() and (moved == space.high[None]).any()


def test_images_keep_their_shape_and_count_every_pixel():
  parameters = weights(2)
  x = inputs().reshape(B, 2, 2, 3)
  moved = apply(perturb.make('tdiv'), 1, network(parameters), x=x)
  flat = apply(perturb.make('tdiv'), 1, network(parameters))
  np.testing.assert_allclose(moved.reshape(B, D), flat, atol=1e-6)


def test_each_examples_step_is_its_own():
  teacher, x = network(weights(3)), inputs()
  order = np.array([3, 0, 4, 1, 2])
  tdiv = perturb.make('tdiv')
  moved = apply(tdiv, 2, teacher, x=x)
  np.testing.assert_allclose(apply(tdiv, 2, teacher, x=x[order]), moved[order], atol=1e-6)


def test_gaussian_noise_has_eta_units_per_feature_and_no_teacher():
  unit = np.geomspace(0.01, 1, D).astype(np.float32)
  space = perturb.Space(-np.inf, np.inf, unit)
  x = np.zeros((4000, D), np.float32)
  noise = apply(perturb.make('gaussian', eta=2.0), 0, None, space=space, x=x)
  np.testing.assert_allclose(noise.std(0), 2 * unit, rtol=0.05)
  np.testing.assert_allclose(noise.mean(0) / unit, 0, atol=0.15)
  assert abs(np.mean((noise / (2 * unit)) ** 4) - 3) < 0.2  # a normal's fourth moment


@pytest.mark.parametrize('name', ['ods', 'tdiv_sdiv'])
def test_every_family_free_perturbation_moves_regression_inputs(name):
  teacher, student = network(weights(3)), network(weights(3, 1))
  x = 1e-6 * inputs()
  moved = apply(perturb.make(name), 0, teacher, student, family=gaussian, x=x) - x
  np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.sqrt(D) / 255, rtol=1e-5)


@pytest.mark.parametrize('name', ['ods', 'conf_ods', 'tdiv', 'tdiv_sdiv'])
@pytest.mark.parametrize('precision', ['highest', 'default'])
def test_precision_reaches_every_product_of_the_gradient(name, precision):
  teacher, student = network(weights(3)), network(weights(3, 1))
  apply = perturb.make(name, precision=precision).apply
  jaxpr = jax.make_jaxpr(lambda x: apply(jax.random.key(0), x, teacher, student, categorical, UNIT))
  products = [line for line in str(jaxpr(inputs())).splitlines() if 'precision=' in line]
  assert len(products) >= 4
  assert all(('HIGHEST' in line) == (precision == 'highest') for line in products)


def test_none_is_no_perturbation():
  assert perturb.make('none') is None


def test_unknown_names_and_settings_name_the_known_ones():
  with pytest.raises(
    ValueError, match="unknown perturbation 'tdiv_sdvi': did you mean 'tdiv_sdiv'"
  ):
    perturb.make('tdiv_sdvi')
  with pytest.raises(
    ValueError, match="setting of perturbation 'tdiv' 'temperature'.*eta, precision"
  ):
    perturb.make('tdiv', temperature=2.0)
  with pytest.raises(ValueError, match="eta=0 must be positive.*perturb.name='none'"):
    perturb.make('gaussian', eta=0)
  with pytest.raises(ValueError, match='temperature=-1'):
    perturb.make('ods', temperature=-1)
  with pytest.raises(ValueError, match="'hihgest': did you mean 'highest'"):
    perturb.make('tdiv', precision='hihgest')


def test_what_does_not_fit_says_what_to_set():
  fits = {name: perturb.make(name).fits for name in perturb.PERTURBATIONS if name != 'none'}
  assert all(fit('categorical', 4, 4) is None for fit in fits.values())
  assert all(fits[name]('gaussian', 4, 4) is None for name in fits if name != 'conf_ods')
  assert "perturb.name='ods'" in fits['conf_ods']('gaussian', 4, 4)
  assert "perturb.name='tdiv'" in fits['tdiv_sdiv']('categorical', 1, 4)
  assert 'teacher.members' in fits['tdiv_sdiv']('categorical', 4, 1)
  assert 'teacher.members' in fits['tdiv']('categorical', 1, 1)
  assert fits['tdiv']('categorical', 1, 2) is None
  assert fits['ods']('categorical', 1, 1) is None


def test_a_new_perturbation_is_a_function_and_a_line(monkeypatch):
  def sharpen(*, eta=1.0):
    """Decrease the entropy of one teacher's prediction."""

    def apply(key, x, teacher, student, family, space):
      def confidence(x):
        return family.prediction(teacher.outputs(x, jnp.array([0]))).max(-1).sum()

      return perturb.ascend(x, jax.grad(confidence)(x), eta, space)

    return perturb.Perturbation('sharpen', apply)

  monkeypatch.setitem(perturb.PERTURBATIONS, 'sharpen', sharpen)
  teacher, x = network(weights(2)), inputs()
  moved = apply(perturb.make('sharpen', eta=2.0), 0, teacher, space=UNIT)

  def confidence(x):
    return scipy.special.softmax(teacher.outputs(x)[:, 0], -1).max(-1)

  assert (confidence(moved) > confidence(x)).all()
