import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from ensdistill import families, perturb
from ensdistill.members import Members

B, D, K = 5, 12, 4
OPEN = perturb.Space(-np.inf, np.inf, 1 / 255)
UNIT = perturb.Space(0.0, 1.0, 1 / 255)
categorical, gaussian = families.categorical, families.gaussian


def weights(size, seed=0, scale=1.0, outputs=K):
  """Two-layer networks x -> tanh(x w1) w2 in float64: w1 [M, D, 16], w2 [M, 16, O]."""
  rng = np.random.default_rng(seed)
  return rng.normal(size=(size, D, 16)), rng.normal(size=(size, 16, outputs)) * scale


def network(parameters, seen=None):
  """The same networks as Members; `seen` collects how many members each call computes."""
  w1, w2 = (jnp.asarray(w, jnp.float32) for w in parameters)

  def outputs(x, index=None):
    if seen is not None:
      seen.append(None if index is None else len(index))
    a, b = (w1, w2) if index is None else (w1[index], w2[index])
    flat = x.reshape(len(x), -1)
    return jnp.einsum('bmh,mho->bmo', jnp.tanh(jnp.einsum('bd,mdh->bmh', flat, a)), b)

  return Members(len(w1), outputs)


def outputs_64(parameters, member, x):
  w1, w2 = parameters
  return np.tanh(x @ w1[member]) @ w2[member]


def differences(function, x, step=1e-5):
  """Central differences of function [B] or [B, O] in float64: [D, B] or [D, B, O]."""
  return np.stack(
    [
      (function(x + step * np.eye(D)[d]) - function(x - step * np.eye(D)[d])) / (2 * step)
      for d in range(D)
    ]
  )


def kl_64(p, q):
  log_p, log_q = scipy.special.log_softmax(p, -1), scipy.special.log_softmax(q, -1)
  return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def disagreement_gradient(parameters, i, j, x):
  """grad_x KL(held p_j || p_i): [B, D], in float64."""
  held = outputs_64(parameters, j, x)
  return differences(lambda x: kl_64(held, outputs_64(parameters, i, x)), x).T


def unit_rows(rows):
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def inputs(seed=0):
  return np.random.default_rng(seed).uniform(0.2, 0.8, (B, D)).astype(np.float32)


def apply(perturbation, seed, teacher, student=None, family=categorical, space=OPEN, x=None):
  x = inputs() if x is None else x
  # Op by op: the tests share their shapes, so what one compiles the others reuse.
  return np.asarray(perturbation.apply(jax.random.key(seed), x, teacher, student, family, space))


def steps(perturbation, count, teacher, student=None, family=categorical, space=OPEN, x=None):
  """x~ - x for `count` keys, in one program: [count, B, D]."""
  x = inputs() if x is None else x
  step = lambda key: perturbation.apply(key, x, teacher, student, family, space)
  moved = jax.jit(lambda keys: jax.lax.map(step, keys))(jax.random.split(jax.random.key(0), count))
  return np.asarray(moved, np.float64) - x


@pytest.mark.parametrize('name', ['ods', 'tdiv', 'tdiv_sdiv'])
@pytest.mark.parametrize('eta', [1.0, 8.0])
def test_steps_have_exactly_the_length_that_the_papers_give(name, eta):
  teacher = network(weights(4))
  # Around x = 0, so that x~ holds the step to its last digit.
  x = np.zeros((B, D), np.float32) + 1e-6 * inputs()
  moved = apply(perturb.make(name, eta=eta), 0, teacher, network(weights(4, 1)), x=x) - x
  expected = eta / 255 * np.sqrt(D)
  np.testing.assert_allclose(np.linalg.norm(moved, axis=1), expected, rtol=1e-5)


class Raw:
  """A family whose predictions are the outputs; with `IDENTITY` ODS then moves along w itself."""

  prediction = staticmethod(lambda outputs, temperature: outputs)


IDENTITY = Members(1, lambda x, index=None: x[:, None])


@pytest.mark.parametrize('name,temperature', [('ods', 1.0), ('ods', 4.0), ('conf_ods', 2.0)])
def test_ods_moves_along_the_gradient_of_one_drawn_member_and_draws_them_all(name, temperature):
  parameters, x = weights(3), inputs().astype(np.float64)
  space = OPEN._replace(unit=1e-1)  # long steps: no digits lost in x~ - x
  moved = steps(perturb.make(name, temperature=temperature), 30, network(parameters), space=space)
  directions = steps(perturb.make('ods'), 30, IDENTITY, family=Raw, x=np.zeros((B, K), np.float32))
  probs = lambda m, x: scipy.special.softmax(outputs_64(parameters, m, x) / temperature, -1)
  jacobians_DBK = [differences(lambda x, m=m: probs(m, x), x) for m in range(3)]
  drawn = []
  for step_BD, w_BK in zip(moved, directions):
    possible = [unit_rows(np.einsum('dbk,bk->bd', jacobian, w_BK)) for jacobian in jacobians_DBK]
    if name == 'conf_ods':
      possible = [p * probs(m, x).max(1, keepdims=True) for m, p in enumerate(possible)]
    near = [np.abs(0.1 * np.sqrt(D) * p - step_BD).max() < 1e-5 for p in possible]
    assert sum(near) == 1
    drawn.append(near.index(True))
  assert set(drawn) == {0, 1, 2}


def test_ods_directions_are_uniform_between_minus_one_and_one():
  x = np.zeros((4000, D), np.float32)
  w = apply(perturb.make('ods'), 0, IDENTITY, family=Raw, x=x).astype(np.float64)
  largest = np.abs(w).max(1, keepdims=True)
  # Given its largest entry, the others are uniform below it, of either sign.
  others = np.abs(w / largest)[np.abs(w) < largest]
  np.testing.assert_allclose(np.quantile(others, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.01)
  np.testing.assert_allclose((w > 0).mean(), 0.5, atol=0.01)
  assert (np.abs(w[0] - w[1]) > 0).all()  # a direction of its own for every example


def test_tdiv_of_two_members_is_one_of_two_steps_and_both_occur():
  parameters, x = weights(2), inputs().astype(np.float64)
  space = OPEN._replace(unit=1e-1)
  moved = steps(perturb.make('tdiv'), 12, network(parameters), space=space)
  possible = [
    unit_rows(disagreement_gradient(parameters, i, j, x)) * 0.1 * np.sqrt(D)
    for i, j in ((0, 1), (1, 0))
  ]
  outcomes = [[np.abs(m - p).max() < 1e-5 for p in possible] for m in moved]
  assert all(sum(outcome) == 1 for outcome in outcomes)
  assert {outcome.index(True) for outcome in outcomes} == {0, 1}


def test_tdiv_sdiv_of_two_members_uses_the_same_pair_for_teacher_and_student():
  teacher, student, x = weights(2), weights(2, seed=1), inputs().astype(np.float64)
  space = OPEN._replace(unit=1e-1)
  moved = steps(perturb.make('tdiv_sdiv'), 12, network(teacher), network(student), space=space)
  possible = [
    unit_rows(disagreement_gradient(teacher, i, j, x) - disagreement_gradient(student, i, j, x))
    * 0.1
    * np.sqrt(D)
    for i, j in ((0, 1), (1, 0))
  ]
  outcomes = [[np.abs(m - p).max() < 1e-5 for p in possible] for m in moved]
  assert all(sum(outcome) == 1 for outcome in outcomes)
  assert {outcome.index(True) for outcome in outcomes} == {0, 1}


def test_tdiv_sdiv_of_other_sizes_lets_the_student_draw_its_own_pair():
  teacher, student, x = weights(3), weights(2, seed=1), inputs().astype(np.float64)
  space = OPEN._replace(unit=1e-1)
  moved = steps(perturb.make('tdiv_sdiv'), 40, network(teacher), network(student), space=space)
  pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
  up = {pair: disagreement_gradient(teacher, *pair, x) for pair in pairs}
  down = {pair: disagreement_gradient(student, *pair, x) for pair in ((0, 1), (1, 0))}
  found = set()
  for step in moved:
    hits = [
      (p, q)
      for p in up
      for q in down
      if np.abs(unit_rows(up[p] - down[q]) * 0.1 * np.sqrt(D) - step).max() < 1e-5
    ]
    assert len(hits) == 1
    found.add(hits[0])
  assert {p for p, _ in found} == set(pairs)
  # Two keys of one teacher pair with either student pair: the two draws are independent.
  assert any((p, (0, 1)) in found and (p, (1, 0)) in found for p in pairs)


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


@pytest.mark.parametrize('name', ['tdiv', 'ods'])
def test_confident_teachers_with_gradients_of_1e_24_still_give_a_whole_exact_step(name):
  rng = np.random.default_rng(5)
  w, bias = rng.normal(size=(2, D, K)), np.array([[57.0, 0, 1, 2], [57.0, 2, 1, 0]])
  linear = lambda x, m: x @ w[m] + bias[m]
  w32, bias32 = jnp.asarray(w, jnp.float32), jnp.asarray(bias, jnp.float32)
  teacher = Members(
    2, lambda x, index: jnp.einsum('bd,mdk->bmk', x, w32[index]) + bias32[index][None]
  )
  x = 0.01 * inputs()
  moved = apply(perturb.make(name), 0, teacher, x=x).astype(np.float64) - x
  np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.sqrt(D) / 255, rtol=1e-4)

  def probs(m):
    p = scipy.special.softmax(linear(x.astype(np.float64), m), -1)
    return p, np.argmax(p, -1)

  if name == 'tdiv':
    directions = []
    for i, j in ((0, 1), (1, 0)):
      gap = probs(i)[0] - probs(j)[0]
      gap[:, 0] = -gap[:, 1:].sum(1)  # the confident class: 1 - 1e-24 in float64 is 1
      assert np.abs(gap).max() < 1e-22
      directions.append(unit_rows(gap @ w[i].T))
    assert any(np.abs(unit_rows(moved) - d).max() < 1e-3 for d in directions)
  else:  # y's gradient: every row is orthogonal to moves that shift all logits alike
    spans = [w[m][:, 1:] - w[m][:, :1] for m in range(2)]
    rest = [
      max(np.linalg.norm(s @ np.linalg.lstsq(s, r, rcond=None)[0] - r) for r in unit_rows(moved))
      for s in spans
    ]
    assert min(rest) < 1e-3 < max(rest)


@pytest.mark.parametrize('name', ['gaussian', 'ods', 'conf_ods', 'tdiv', 'tdiv_sdiv'])
def test_inputs_stay_inside_the_space(name):
  space = perturb.Space(0.3, np.linspace(0.5, 0.7, D).astype(np.float32), 0.5)
  x = inputs().clip(0.3, 0.5)
  moved = apply(
    perturb.make(name), 0, network(weights(3)), network(weights(3, 1)), space=space, x=x
  )
  assert (moved >= np.float32(0.3)).all() and (moved <= space.high[None]).all()
  assert (moved == np.float32(0.3)).any() and (moved == space.high[None]).any()


def test_steps_in_a_table_are_measured_in_its_units():
  parameters, x = weights(2), inputs().astype(np.float64)
  unit = np.geomspace(0.01, 1, D)
  space = perturb.Space(-np.inf, np.inf, unit.astype(np.float32))
  moved = apply(perturb.make('tdiv', eta=0.5), 0, network(parameters), space=space) - x
  scaled = moved / unit
  np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 0.5 * np.sqrt(D), rtol=1e-4)
  possible = [
    unit_rows(disagreement_gradient(parameters, i, j, x) * unit) for i, j in ((0, 1), (1, 0))
  ]
  assert min(np.abs(unit_rows(scaled) - p).max() for p in possible) < 1e-4


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


def test_tdiv_raises_the_teachers_disagreement():
  teacher, x = network(weights(2)), inputs()
  moved = apply(perturb.make('tdiv'), 0, teacher)

  def gap(x):
    outputs = np.asarray(teacher.outputs(x), np.float64)
    return kl_64(outputs[:, 0], outputs[:, 1]) + kl_64(outputs[:, 1], outputs[:, 0])

  assert (gap(moved) > gap(x)).all()


def test_gaussian_noise_has_eta_units_per_feature_and_no_teacher():
  unit = np.geomspace(0.01, 1, D).astype(np.float32)
  space = perturb.Space(-np.inf, np.inf, unit)
  x = np.zeros((4000, D), np.float32)
  noise = apply(perturb.make('gaussian', eta=2.0), 0, None, space=space, x=x)
  np.testing.assert_allclose(noise.std(0), 2 * unit, rtol=0.05)
  np.testing.assert_allclose(noise.mean(0) / unit, 0, atol=0.15)
  assert abs(np.mean((noise / (2 * unit)) ** 4) - 3) < 0.2  # a normal's fourth moment


def test_regression_teachers_disagree_by_the_gaussians_kl():
  parameters, x = weights(2, scale=0.3), inputs().astype(np.float64)
  space = OPEN._replace(unit=1e-1)
  moved = steps(perturb.make('tdiv'), 8, network(parameters), family=gaussian, space=space)

  def gradient(i, j):
    def kl(x):
      (m_i, v_i), (m_j, v_j) = (
        np.split(o, 2, -1) for o in (outputs_64(parameters, i, x), outputs_64(parameters, j, held))
      )
      terms = v_i - v_j + (np.exp(v_j) + (m_i - m_j) ** 2) / np.exp(v_i) - 1
      return 0.5 * terms.sum(-1)

    held = x
    return unit_rows(differences(kl, x).T) * 0.1 * np.sqrt(D)

  possible = [gradient(0, 1), gradient(1, 0)]
  for step in moved:
    assert sum(np.abs(step - p).max() < 1e-5 for p in possible) == 1


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
    """Down in the entropy of one teacher's prediction."""

    def apply(key, x, teacher, student, family, space):
      def confidence(x):
        return family.prediction(teacher.outputs(x, jnp.array([0]))).max(-1).sum()

      return perturb.ascend(x, jax.grad(confidence)(x), eta, space)

    return perturb.Perturbation('sharpen', apply)

  monkeypatch.setitem(perturb.PERTURBATIONS, 'sharpen', sharpen)
  teacher, x = network(weights(2)), inputs()
  moved = apply(perturb.make('sharpen', eta=2.0), 0, teacher, space=UNIT)
  confidence = lambda x: scipy.special.softmax(teacher.outputs(x)[:, 0], -1).max(-1)
  assert (confidence(moved) > confidence(x)).all()
