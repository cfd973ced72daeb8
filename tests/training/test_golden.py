"""One golden step for each point of the three axes.

If you did not mean to change what a step computes, you have found a bug. If you did, write the new
values with: PYTHONPATH=tests:. python tests/training/test_golden.py
"""

import itertools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import families, members, nets, objectives, perturb, students
from ensdistill.method import Method
from ensdistill.training import optim
from ensdistill.training import step as train

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden.json'
MOVES = ('none', 'gaussian', 'ods', 'conf_ods', 'tdiv', 'tdiv_sdiv')
POINTS = [
  *itertools.product(('single',), ('mean', 'dirichlet', 'proxy_dirichlet'), MOVES[:-1]),
  *itertools.product(('multi_head', 'batch_ensemble'), ('mean', 'members'), MOVES),
  *itertools.product(('single', 'multi_head', 'batch_ensemble'), ('none',), ('none',)),
  ('single', 'prior_network', 'none'),
  *itertools.product(('single',), ('normal_wishart',), ('none', 'gaussian', 'tdiv')),
  ('batch_ensemble', 'members', 'conf_ods', 'resnet'),
]
STEPS, MEMBERS, TARGETS = 9, 3, 4


def measure(kind, objective, move, network='mlp') -> dict[str, float]:
  """A step from fixed parameters: its logs, and a checksum of the parameters after it."""
  if network == 'mlp':
    backbone = nets.build('mlp', shape=(6,), mean=(0.5,), std=(0.3,), hidden=(8, 8))
  else:
    backbone = tiny.backbone(network)
  shape = (6,) if network == 'mlp' else (8, 8, 1)
  regression = objective == 'normal_wishart'
  family = families.gaussian if regression else families.categorical

  # Factors of one would make all members alike, and what lies between them zero.
  def build(kind, objective):
    return students.make(
      kind,
      backbone,
      objective.width(family, TARGETS),
      members=MEMBERS,
      **({'factors': 'normal'} if kind == 'batch_ensemble' else {}),
    )

  labels_only = objective in ('none', 'prior_network')

  def method(kind, objective, move, weight):
    objective = objectives.make(objective)
    student = build(kind, objective)
    optimizer = optim.make(name='sgd', rate=0.1, steps=STEPS, decay=1e-3, group=student.group)
    return Method(
      student,
      family,
      objective,
      optimizer,
      STEPS,
      perturb.Space(),
      perturb.make(move),
      weight,
    )

  def states(method, seed, size):
    keys = train.network_keys(jax.random.key(seed), range(size))
    return train.start(*keys, method, jnp.zeros((1, *shape)))

  teacher = method('single', 'none', 'none', 1.0)
  stacked = states(teacher, 1, MEMBERS).variables
  this = method(kind, objective, move, 1.0 if labels_only else 0.1)
  state = members.take(states(this, 2, 1), 0)
  random = np.random.default_rng(0)
  x = jnp.asarray(random.random((8, *shape)), jnp.float32)
  y = jnp.asarray([0, 1, 2, 3, -1, 1, 2, 3])
  if regression:
    y = jnp.asarray(random.normal(size=(8, TARGETS)), jnp.float32).at[4].set(jnp.nan)
  batch = {'x': x, 'y': y}

  @jax.jit
  def step(state, stacked):
    frozen = members.frozen(teacher.student.module.apply, stacked)
    return train.train_step(state, batch, None if labels_only else frozen, this)

  after, logs = jax.device_get(step(state, stacked))
  leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(after.params)]
  found = {name: float(value) for name, value in logs.items()}
  return found | {'parameters': float(sum((leaf**2).sum() for leaf in leaves))}


@pytest.mark.parametrize('point', POINTS, ids='-'.join)
def test_golden_step(point):
  want = json.loads(GOLDEN.read_text())['-'.join(point)]
  found = measure(*point)
  assert found.keys() == want.keys()
  for name, value in want.items():
    message = f'{name} has changed: see this file if you meant to'
    np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=message)


if __name__ == '__main__':
  values = {'-'.join(point): measure(*point) for point in POINTS}
  GOLDEN.write_text(json.dumps(values, indent=1, sort_keys=True) + '\n')
  sys.exit()
