"""The one step: alone and together, on its points, and against hand-computed updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from ensdistill import data, families, members, nets, objectives, perturb, students
from ensdistill.method import Method
from ensdistill.training import optim
from ensdistill.training import step as train
from ensdistill.training.feed import OnDevice
from ensdistill.training.step import TrainState


def method(kind='single', objective='none', moved='none', classes=3, network='resnet', **settings):
  backbone = nets.build(
    network,
    shape=(8, 8, 1),
    mean=(0.3,),
    std=(0.3,),
    **({'depth': 8} if network == 'resnet' else {'hidden': (8,)}),
  )
  student = students.make(kind, backbone, classes, members=settings.pop('members', 3))
  return Method(
    student,
    families.categorical,
    objectives.make(objective),
    settings.pop('optimizer', optim.make(name='sgd', rate=0.1, steps=20, group=student.group)),
    20,
    perturb.Space(),
    perturb.make(moved),
    **{'label_weight': 1.0 if objective == 'none' else 0.1, **settings},
  )


def start(m, seed=0, size=1):
  """Fresh states, one or (stacked) several, and the arrays to train on."""
  data = tiny.dataset().train
  keys = train.network_keys(jax.random.key(seed), range(size))
  states = train.start(*keys, m, jnp.zeros((1, 8, 8, 1)))
  states = states if size > 1 else members.take(states, 0)
  return states, {'x': jnp.asarray(data.x), 'y': jnp.asarray(data.y)}


def teacher_of(m, size=3):
  states, _ = start(m, seed=100, size=size)
  return members.frozen(m.student.module.apply, states.variables)


@pytest.mark.parametrize(
  'network,strategy', [*(('mlp', s) for s in members.STRATEGIES), ('resnet', 'vmap')]
)
def test_members_together_equal_members_alone(network, strategy):
  student = students.make('single', tiny.backbone(network), 3)
  m = tiny.replace(method(network='mlp'), student=student)
  together, arrays = start(m, size=3)

  def step(state, arrays):
    return train.train_step(state, OnDevice(arrays, 16).draw(arrays, state), None, m)

  lifted, alone = jax.jit(members.lift(step, strategy)), jax.jit(step)
  one = members.take(together, 1)
  for _ in range(20):
    together, logs = lifted(together, arrays)
    one, _ = alone(one, arrays)
  assert tiny.largest_difference(members.take(together, 1).params, one.params) < 1e-6
  assert logs['loss'].shape == (3,)
  assert (
    float(jnp.abs(together.params['head']['kernel'][0] - one.params['head']['kernel']).max()) > 0.01
  )


def test_an_sgd_step_by_hand():
  """Nesterov momentum with an L2 penalty: two steps against numpy on the same gradients."""
  m = method(
    network='mlp',
    optimizer=optim.make(name='sgd', rate=0.1, steps=10, schedule='constant', decay=0.01),
  )
  state, arrays = start(m)
  batch = {k: v[:8] for k, v in arrays.items()}

  def loss(params):
    logits = m.student.module.apply({'params': params}, batch['x'], True)
    picked = jax.nn.log_softmax(logits)[:, 0][jnp.arange(8), batch['y']]
    return -picked.mean()

  params, velocity = state.params, jax.tree.map(jnp.zeros_like, state.params)
  for _ in range(2):
    grads = jax.tree.map(lambda g, p: g + 0.01 * p, jax.grad(loss)(params), params)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
    params = jax.tree.map(lambda p, v, g: p - 0.1 * (0.9 * v + g), params, velocity, grads)
    state, _ = jax.jit(lambda s: train.train_step(s, batch, None, m))(state)
  assert tiny.largest_difference(state.params, params) < 1e-6


def test_latentbe_factors_decay_to_one_with_gradients_times_members():
  """r <- r - rate * (M * dL/dr + decay * (r - 1)), all else w <- w - rate * (dL/dw + decay * w)."""
  student = students.make(
    'batch_ensemble',
    nets.build('mlp', shape=(4,), mean=(0.0,), std=(1.0,), hidden=(5,)),
    3,
    members=2,
  )
  chain = optim.make(
    name='sgd', rate=0.1, steps=10, schedule='constant', momentum=0.0, nesterov=False, decay=0.01,
    group=student.group, factor_decay='one', factor_scale=2.0,
  )  # fmt: skip
  drawn = nets.initial.variables(
    student.module, jax.random.split(jax.random.key(0), 1), jnp.ones((1, 4))
  )
  params = jax.tree.map(lambda p: p[0] + np.float32(0.5), drawn['params'])
  grads = jax.tree.map(np.sin, params)
  updates, _ = jax.jit(lambda g, p: chain.update(g, chain.init(p), p))(grads, params)
  for (path, update), p, g in zip(
    jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(params), jax.tree.leaves(grads)
  ):
    factor = path[-1].key in ('r', 's')
    want = -0.1 * (2 * g + 0.01 * (p - 1) if factor else g + 0.01 * p)
    np.testing.assert_allclose(update, want, rtol=1e-6)


def test_a_latentbe_step_by_hand():
  """A step of a configuration against its gradients in numpy: T^2 mean KL, factors times M."""
  config = tiny.config(
    student__kind='batch_ensemble', student__factors='normal', objective__name='members',
    objective__temperature=4.0, teacher__members=2, network__hidden=(5,),
  )  # fmt: skip
  config.student.optimizer.update(
    dict(rate=0.1, schedule='constant', momentum=0.0, nesterov=False, decay=0.01)
    | dict(factor_scale='members', factor_decay='one')
  )
  m = tiny.plan(config, tiny.dataset()).student
  state, arrays = start(m)
  targets = np.random.default_rng(0).normal(size=(8, 2, 3)).astype(np.float32)
  batch = {'x': arrays['x'][:8], 'y': arrays['y'][:8], 'teacher_outputs': targets}
  after, _ = jax.jit(lambda s: train.train_step(s, batch, None, m))(state)

  p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
  first, head = p['hidden0']['dense'], p['head']
  x = np.repeat((np.asarray(batch['x'], np.float64).reshape(8, 1, 64) - 0.3) / 0.3, 2, 1)

  def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)

  def forward(layer, x):
    inside = (x * layer['r']) @ layer['kernel'] + layer['bias']
    return inside, inside * layer['s']

  def backward(layer, x, inside, slope):
    back = slope * layer['s']
    own = {'s': (slope * inside).sum(0), 'r': (x * (back @ layer['kernel'].T)).sum(0)}
    kernel = np.einsum('bmi,bmo->io', x * layer['r'], back)
    through = back @ layer['kernel'].T * layer['r']
    return {**own, 'kernel': kernel, 'bias': back.sum((0, 1))}, through

  inside_first, y = forward(first, x)
  hidden = np.maximum(y, 0)
  inside_head, z = forward(head, hidden)
  slope = 4.0 * (softmax(z / 4) - softmax(targets.astype(np.float64) / 4)) / (8 * 2)
  of_head, through = backward(head, hidden, inside_head, slope)
  of_first, _ = backward(first, x, inside_first, through * (y > 0))
  for layer, grads, now in (
    (first, of_first, after.params['hidden0']['dense']),
    (head, of_head, after.params['head']),
  ):
    for name, g in grads.items():
      pull = 2 * g + 0.01 * (layer[name] - 1) if name in 'rs' else g + 0.01 * layer[name]
      step = np.asarray(now[name]) - layer[name]
      np.testing.assert_allclose(step, -0.1 * pull, rtol=1e-4, atol=1e-6)


POINTS = [
  ('single', 'mean', 'none', {}),
  ('single', 'mean', 'tdiv', {}),
  pytest.param('multi_head', 'members', 'conf_ods', {}, marks=pytest.mark.slow),
  ('batch_ensemble', 'members', 'tdiv_sdiv', {'labels_on_clean': False}),
  pytest.param('batch_ensemble', 'members', 'ods', {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize('kind,objective,moved,settings', POINTS)
def test_the_step_is_the_slow_obvious_one(kind, objective, moved, settings):
  """The step against the same mathematics written out with every member computed."""
  m = method(kind, objective, moved, optimizer=optax.sgd(0.1), **settings)
  state, arrays = start(m)
  batch = {k: v[:8] for k, v in arrays.items()}
  teacher = teacher_of(method())
  after, logs = jax.jit(lambda s, b: train.train_step(s, b, teacher, m))(state, batch)

  def indexing_all(frozen):
    return members.Members(
      frozen.size, lambda x, i=None: frozen.outputs(x) if i is None else frozen.outputs(x)[:, i]
    )

  def perturbed():
    if not m.perturbation:
      return batch['x']
    key = jax.random.split(jax.random.fold_in(state.key, 0))[0]
    frozen = indexing_all(m.student.freeze(state.variables))
    return m.perturbation.apply(key, batch['x'], indexing_all(teacher), frozen, m.family, m.space)

  def loss(params, x):
    targets = jax.nn.softmax(teacher.outputs(x))

    def forward(x, stats):
      return m.student.module.apply(
        {'params': params, 'batch_stats': stats}, x, True, mutable=['batch_stats']
      )

    stats, labelled = state.batch_stats, None
    if m.perturbation and m.labels_on_clean:  # the clean pass first: statistics end on x
      labelled, new = forward(batch['x'], stats)
      stats = new['batch_stats']
    outputs, new = forward(x, stats)
    p = targets if objective == 'members' else targets.mean(1, keepdims=True)
    matched = (p * (jnp.log(p) - jax.nn.log_softmax(outputs))).sum(-1).mean()
    outputs = outputs if labelled is None else labelled
    labels = -jnp.take_along_axis(
      jax.nn.log_softmax(outputs), batch['y'][:, None, None], axis=-1
    ).mean()
    return 0.9 * matched + 0.1 * labels, new['batch_stats']

  slow = jax.jit(lambda params: jax.value_and_grad(loss, has_aux=True)(params, perturbed()))
  (want, stats), grads = slow(state.params)
  np.testing.assert_allclose(logs['loss'], want, rtol=2e-5)
  assert tiny.largest_difference(after.batch_stats, stats) < 1e-5
  moved_by = jax.tree.map(lambda a, b: (a - b) / 0.1, state.params, after.params)
  assert tiny.largest_difference(moved_by, grads) < 2e-4
  assert ('moved' in logs) == bool(m.perturbation)


def test_stored_outputs_take_the_place_of_the_teacher():
  m = method('single', 'mean', network='mlp')
  state, arrays = start(m)
  teacher = teacher_of(method(network='mlp'))
  stored = {**arrays, 'teacher_outputs': jax.jit(teacher.outputs)(arrays['x'])}

  def step(arrays, teacher):
    def draw():
      return OnDevice(arrays, 8).draw(arrays, state)

    return jax.jit(lambda: train.train_step(state, draw(), teacher, m))()

  (online, _), (cached, _) = step(arrays, teacher), step(stored, None)
  assert tiny.largest_difference(online.params, cached.params) < 1e-6


def test_a_label_of_minus_one_is_no_label():
  m = method(network='mlp')
  state, arrays = start(m)
  half = {'x': arrays['x'][:8], 'y': arrays['y'][:8].at[4:].set(-1)}
  step = jax.jit(lambda batch: train.train_step(state, batch, None, m)[1])
  logs, full = step(half), step({k: v[:4] for k, v in half.items()})
  np.testing.assert_allclose(logs['labels'], full['labels'] / 2, rtol=1e-6)


@pytest.mark.parametrize('objective', ['none', 'mean'])
def test_a_step_on_mixtures(objective):
  """Labels' losses in the shares of the inputs; teacher and student see the same mixtures."""
  mix = data.augment.mixing(mixup=0.7)
  m = method(network='mlp', objective=objective, mix=mix)
  state, arrays = start(m)
  y = np.asarray(arrays['y'][:8]).copy()
  y[[2, 3, 5]] = -1
  teacher = teacher_of(method(network='mlp'))
  step = jax.jit(lambda batch: train.train_step(state, batch, teacher, m)[1])
  logs = step({'x': arrays['x'][:8], 'y': y})

  key = train.key_of_step(state.order, train.MIXING, 0)
  share = float(jax.random.beta(key, 0.7, 0.7))
  x = np.asarray(arrays['x'][:8])
  mixed = np.stack([share * x[i] + (1 - share) * x[i - 1] for i in range(8)])
  log_p = np.asarray(jax.nn.log_softmax(m.student.module.apply(state.variables, mixed)))[:, 0]
  losses = []
  for i in range(8):
    own = -log_p[i, y[i]] if y[i] >= 0 else 0
    other = -log_p[i, y[i - 1]] if y[i - 1] >= 0 else 0
    losses.append(share * own + (1 - share) * other)
  np.testing.assert_allclose(logs['labels'], np.mean(losses), rtol=1e-5)
  if objective == 'mean':
    p = np.asarray(jax.nn.softmax(teacher.outputs(mixed))).mean(1)
    np.testing.assert_allclose(logs['mean'], (p * (np.log(p) - log_p)).sum(-1).mean(), rtol=1e-4)


def test_networks_that_share_an_order_see_the_same_mixtures():
  mix = data.augment.mixing(mixup=1.0)
  m = method(network='mlp', mix=mix)
  arrays = start(m)[1]
  batch = {k: v[:8] for k, v in arrays.items()}
  step = jax.jit(lambda s: train.train_step(s, batch, None, m)[1]['loss'])

  def losses(shared):
    keys, orders = train.network_keys(jax.random.key(0), range(2), shared)
    states = train.start(keys, orders, m, jnp.zeros((1, 8, 8, 1)))
    first = members.take(states, 0)
    return [step(first._replace(order=order)) for order in states.order]

  same, own = losses(True), losses(False)
  assert same[0] == same[1] and own[0] != own[1]


def test_draw_is_a_pure_function_of_order_and_step():
  arrays = start(method(network='mlp'))[1]
  order = jax.random.key(3)

  @jax.jit
  def draw(arrays, order, step):
    state = TrainState(step, None, None, None, None, order)
    return OnDevice(arrays, 16).draw(arrays, state)

  a, b, c = draw(arrays, order, 2), draw(arrays, order, 2), draw(arrays, order, 3)
  assert tiny.largest_difference(a, b) == 0
  assert tiny.largest_difference(a['x'], c['x']) > 0
  seen = np.concatenate(
    [np.asarray(draw({'x': arrays['x'], 'i': jnp.arange(48)}, order, s)['i']) for s in range(3)]
  )
  assert sorted(seen) == list(range(48))


def test_a_schedule_is_settled_where_it_holds_its_last_values():
  m = tiny.replace(method('single', 'dirichlet', network='mlp'), steps=90)
  assert m.settled() == 60
  assert tiny.replace(m, objective=objectives.make('mean', temperature=4.0)).settled() == 0
  constant = objectives.make('dirichlet', temperature=1.0)
  assert tiny.replace(m, objective=constant).settled() == 0


def test_what_happens_to_a_batch_has_keys_of_its_own():
  """Apart from each other's and from those that permute the examples of any epoch."""
  keys = []

  def note(key, batch):
    keys.append(jax.random.key_data(key))
    return batch

  m = method(network='mlp', mix=note)
  state, arrays = start(m)
  state = state._replace(step=5)

  @jax.jit
  def of_this_step():
    batch = OnDevice(arrays, 8, note).draw(arrays, state)
    train.train_step(state, batch, None, m)
    return keys

  augmentation, mixing = np.asarray(of_this_step()).tolist()

  def key_of_epoch(epoch):
    return jax.random.fold_in(jax.random.fold_in(state.order, epoch), 5)

  epochs = jax.vmap(key_of_epoch)(jnp.asarray([*range(100), 2**31 - 1]))
  assert augmentation != mixing
  assert not any(key in jax.random.key_data(epochs).tolist() for key in (augmentation, mixing))


def test_a_new_objective_and_a_new_perturbation_need_no_other_file(monkeypatch):
  def squared(*, power=2.0):
    def loss(family, outputs, teacher_outputs):
      gap = jax.nn.softmax(outputs) - jax.nn.softmax(teacher_outputs).mean(1, keepdims=True)
      loss_B = (jnp.abs(gap) ** power).sum((1, 2))
      return loss_B, {'squared': loss_B}

    return objectives.Objective('squared', loss)

  def mirror():
    def apply(key, x, teacher, student, family, space):
      return x[:, :, ::-1]

    return perturb.Perturbation('mirror', apply)

  monkeypatch.setitem(objectives.OBJECTIVES, 'squared', squared)
  monkeypatch.setitem(perturb.PERTURBATIONS, 'mirror', mirror)
  config = tiny.config(objective__name='squared', objective__power=1.0, perturb__name='mirror')
  m = tiny.plan(config, tiny.dataset()).student
  state, arrays = start(m)
  teacher = teacher_of(method(network='mlp'))
  _, logs = jax.jit(lambda: train.train_step(state, arrays, teacher, m))()
  assert 0 < logs['squared'] < 2 and logs['moved'] == 1
