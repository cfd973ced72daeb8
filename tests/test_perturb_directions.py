"""Directions and lengths of steps, against gradients by central differences in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from perturbed import (
  OPEN,
  B,
  D,
  K,
  apply,
  differences,
  disagreement_gradient,
  gaussian,
  inputs,
  kl_64,
  network,
  outputs_64,
  steps,
  unit_rows,
  weights,
)

from ensdistill import perturb
from ensdistill.members import Members


@pytest.mark.parametrize('name', ['ods', 'tdiv', 'tdiv_sdiv'])
@pytest.mark.parametrize('eta', [1.0, 8.0])
def test_steps_have_exactly_the_length_that_the_papers_give(name, eta):
  teacher = network(weights(4))
  # x is near 0, so x~ has all digits of the step.
  x = np.zeros((B, D), np.float32) + 1e-6 * inputs()
  moved = apply(perturb.make(name, eta=eta), 0, teacher, network(weights(4, 1)), x=x) - x
  expected = eta / 255 * np.sqrt(D)
  np.testing.assert_allclose(np.linalg.norm(moved, axis=1), expected, rtol=1e-5)


class Raw:
  """A family whose predictions are the outputs; with `IDENTITY`, ODS moves along w itself."""

  prediction = staticmethod(lambda outputs, temperature: outputs)


IDENTITY = Members(1, lambda x, index=None: x[:, None])


@pytest.mark.parametrize('name,temperature', [('ods', 1.0), ('ods', 4.0), ('conf_ods', 2.0)])
def test_ods_moves_along_the_gradient_of_one_drawn_member_and_draws_them_all(name, temperature):
  parameters, x = weights(3), inputs().astype(np.float64)
  space = OPEN._replace(unit=1e-1)  # long steps: no digits lost in x~ - x
  moved = steps(perturb.make(name, temperature=temperature), 30, network(parameters), space=space)
  directions = steps(perturb.make('ods'), 30, IDENTITY, family=Raw, x=np.zeros((B, K), np.float32))

  def probs_of(m, x):
    return scipy.special.softmax(outputs_64(parameters, m, x) / temperature, -1)

  jacobians_DBK = [differences(lambda x, m=m: probs_of(m, x), x) for m in range(3)]
  drawn = []
  for step_BD, w_BK in zip(moved, directions):
    possible = [unit_rows(np.einsum('dbk,bk->bd', jacobian, w_BK)) for jacobian in jacobians_DBK]
    if name == 'conf_ods':
      possible = [p * probs_of(m, x).max(1, keepdims=True) for m, p in enumerate(possible)]
    near = [np.abs(0.1 * np.sqrt(D) * p - step_BD).max() < 1e-5 for p in possible]
    assert sum(near) == 1
    drawn.append(near.index(True))
  assert set(drawn) == {0, 1, 2}


def test_ods_directions_are_uniform_between_minus_one_and_one():
  x = np.zeros((4000, D), np.float32)
  w = apply(perturb.make('ods'), 0, IDENTITY, family=Raw, x=x).astype(np.float64)
  largest = np.abs(w).max(1, keepdims=True)
  # Given the largest entry, the absolute values of the others are uniform below it.
  others = np.abs(w / largest)[np.abs(w) < largest]
  np.testing.assert_allclose(np.quantile(others, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.01)
  np.testing.assert_allclose((w > 0).mean(), 0.5, atol=0.01)
  assert (np.abs(w[0] - w[1]) > 0).all()  # each example has its own direction


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
  # A teacher pair occurs with both student pairs: the two draws are independent.
  assert any((p, (0, 1)) in found and (p, (1, 0)) in found for p in pairs)


@pytest.mark.parametrize('name', ['tdiv', 'ods'])
def test_confident_teachers_with_gradients_of_1e_24_still_give_a_whole_exact_step(name):
  rng = np.random.default_rng(5)
  w, bias = rng.normal(size=(2, D, K)), np.array([[57.0, 0, 1, 2], [57.0, 2, 1, 0]])

  def logits_of(x, m):
    return x @ w[m] + bias[m]

  w32, bias32 = jnp.asarray(w, jnp.float32), jnp.asarray(bias, jnp.float32)
  teacher = Members(
    2, lambda x, index: jnp.einsum('bd,mdk->bmk', x, w32[index]) + bias32[index][None]
  )
  x = 0.01 * inputs()
  moved = apply(perturb.make(name), 0, teacher, x=x).astype(np.float64) - x
  np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.sqrt(D) / 255, rtol=1e-4)

  def probs(m):
    p = scipy.special.softmax(logits_of(x.astype(np.float64), m), -1)
    return p, np.argmax(p, -1)

  if name == 'tdiv':
    directions = []
    for i, j in ((0, 1), (1, 0)):
      gap = probs(i)[0] - probs(j)[0]
      gap[:, 0] = -gap[:, 1:].sum(1)  # the confident class: 1 - 1e-24 in float64 is 1
      assert np.abs(gap).max() < 1e-22
      directions.append(unit_rows(gap @ w[i].T))
    assert any(np.abs(unit_rows(moved) - d).max() < 1e-3 for d in directions)
  else:  # the gradient of y lies in the span of the differences of logits
    spans = [w[m][:, 1:] - w[m][:, :1] for m in range(2)]
    rest = [
      max(np.linalg.norm(s @ np.linalg.lstsq(s, r, rcond=None)[0] - r) for r in unit_rows(moved))
      for s in spans
    ]
    assert min(rest) < 1e-3 < max(rest)


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


def test_tdiv_raises_the_teachers_disagreement():
  teacher, x = network(weights(2)), inputs()
  moved = apply(perturb.make('tdiv'), 0, teacher)

  def gap(x):
    outputs = np.asarray(teacher.outputs(x), np.float64)
    return kl_64(outputs[:, 0], outputs[:, 1]) + kl_64(outputs[:, 1], outputs[:, 0])

  assert (gap(moved) > gap(x)).all()


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
