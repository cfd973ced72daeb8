"""A whole step of Diversity Matters, in NumPy and float64 from the paper's equations.

Everything but the two draws (the teacher's number, the direction w) is computed here a second time:
the move of the inputs, both passes of the student, both losses, and the update.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import members
from ensdistill.config import recipes
from ensdistill.training import step as train

B, M, K, D = 8, 2, 3, 64
A, T, RATE, DECAY = 0.9, 4.0, 0.1, 0.01


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def normalised(x):
  return (x - 0.3) / 0.3


def teacher_logits(weights, m, x):
  hidden = np.maximum(normalised(x) @ weights['w1'][m] + weights['b1'][m], 0)
  return hidden @ weights['w2'][m] + weights['b2'][m]


def student_logits(params, x):
  """Return logits [B, M, K] of a BatchEnsemble: y_m = s_m * W(r_m * x) + b_m in every layer."""
  y = normalised(x)[:, None]
  for layer in (params['hidden0']['dense'], params['head']):
    y = ((y * layer['r']) @ layer['kernel']) * layer['s'] + layer['b']
    y = np.maximum(y, 0) if layer is not params['head'] else y
  return y


def moved(weights, x, member, w, eta, scaled, temperature):
  """Return clip(x + eta / 255 * sqrt(D) * c * g / |g|, 0, 1) with g = grad_x sum w softmax(t / T).

  The Jacobian of one hidden layer of ReLUs is written out. c = max_k y_k for ConfODS.
  """
  hidden = normalised(x) @ weights['w1'][member] + weights['b1'][member]
  y = softmax(teacher_logits(weights, member, x) / temperature)
  of_logits = y * (w - (w * y).sum(-1, keepdims=True)) / temperature
  g = ((of_logits @ weights['w2'][member].T) * (hidden > 0)) @ weights['w1'][member].T / 0.3
  length = eta / 255 * np.sqrt(D) * (y.max(-1) if scaled else np.ones(len(x)))
  step = length[:, None] * g / np.linalg.norm(g, axis=1, keepdims=True)
  return np.clip(x + step, 0, 1), length


def loss_of(params, weights, clean, x, labels):
  """Return (1 - a) CE(clean, labels) + a T^2 KL(teacher m || student m), means over B and M."""
  own, other = softmax(student_logits(params, clean)), student_logits(params, x)
  ce = -np.log(own[np.arange(B), :, labels]).mean()
  teacher = np.stack([teacher_logits(weights, m, x) for m in range(M)], 1)
  p, q = softmax(teacher / T), softmax(other / T)
  return (1 - A) * ce + A * T**2 * (p * (np.log(p) - np.log(q))).sum(-1).mean()


def plan_of(method):
  config = tiny.config(network__hidden=(5,), teacher__members=M)
  recipes.apply_method(config, method, 'classification')
  config.student.optimizer.update(
    dict(rate=RATE, schedule='constant', momentum=0.0, nesterov=False, decay=DECAY)
  )
  config.perturb.eta = 20.0  # long steps, some of which leave [0, 1]
  return tiny.plan(config, tiny.dataset())


def drawn(size, seed=0):
  random = np.random.default_rng(seed)
  return {
    'w1': random.normal(0, 0.3, (size, D, 5)), 'b1': random.normal(0, 1, (size, 5)),
    'w2': random.normal(0, 2, (size, 5, K)), 'b2': random.normal(0, 1, (size, K)),
  }  # fmt: skip


def frozen(plan, weights):
  w = {name: jnp.asarray(value, jnp.float32) for name, value in weights.items()}
  layers = {
    'hidden0': {'dense': {'kernel': w['w1'], 'bias': w['b1']}},
    'head': {'kernel': w['w2'], 'bias': w['b2']},
  }
  return members.frozen(plan.teacher.student.module.apply, {'params': layers})


@pytest.mark.parametrize('method,scaled', [('be_confods', True), ('be_ods', False)])
def test_a_step_of_diversity_matters_by_hand(method, scaled):
  plan = plan_of(method)
  m, weights, data = plan.student, drawn(M), tiny.dataset().train
  keys, orders = train.network_keys(jax.random.key(0), [0])
  example = np.zeros((1, 8, 8, 1), np.float32)
  state = members.take(train.start(keys, orders, m, example), 0)
  batch = {'x': data.x[:B], 'y': data.y[:B]}
  teacher = frozen(plan, weights)
  after, logs = jax.jit(lambda s: train.train_step(s, batch, teacher, m))(state)

  key = jax.random.split(jax.random.fold_in(state.key, 0))[0]
  key_member, key_direction = jax.random.split(key)
  member = int(jax.random.randint(key_member, (1,), 0, M)[0])
  w = np.asarray(jax.random.uniform(key_direction, (B, K), minval=-1, maxval=1), np.float64)
  clean = data.x[:B].reshape(B, D).astype(np.float64)
  x, length = moved(weights, clean, member, w, 20.0, scaled, T)
  # The confidence shortens every step.
  assert scaled == bool((length < 20 / 255 * 8 * 0.99).all())
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
  np.testing.assert_allclose(
    logs['loss'], loss_of(params, weights, clean, x, data.y[:B]), rtol=1e-5
  )

  def gradient(leaf):
    """Return central differences of the loss by one array, which is changed in place."""
    found = np.zeros_like(leaf)
    for i in np.ndindex(leaf.shape):
      values, kept = [], leaf[i]
      for sign in (1, -1):
        leaf[i] = kept + sign * 1e-6
        values.append(loss_of(params, weights, clean, x, data.y[:B]))
      leaf[i] = kept
      found[i] = (values[0] - values[1]) / 2e-6
    return found

  new = dict(tiny.leaves(after.params))
  for path, leaf in tiny.leaves(params):
    g = gradient(leaf)
    factor = path[-1] in ('r', 's')  # half the rate, no decay
    step = -0.5 * RATE * g if factor else -RATE * (g + DECAY * leaf)
    np.testing.assert_allclose(np.asarray(new[path]) - leaf, step, rtol=1e-3, atol=2e-6)
