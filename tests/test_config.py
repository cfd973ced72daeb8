"""The configuration: every file builds, wrong settings fail in one line before compiling."""

import functools
import importlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest
import tiny

from ensdistill import build, distil, members, train
from ensdistill import config as config_lib

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
common = importlib.import_module('configs.common')
FILES = sorted(
  p.stem for p in (ROOT / 'configs').glob('*.py') if p.stem not in ('common', '__init__')
)


def get(name, variant=''):
  return importlib.import_module(f'configs.{name}').get_config(variant)


@functools.cache
def dataset(name):
  """Arrays of the right shape for a data set that need not be at hand."""
  shapes = {'digits': (8, 8, 1), 'mnist': (28, 28, 1), 'fashion_mnist': (28, 28, 1)}
  if name == 'spirals':
    from ensdistill import data

    return data.load('spirals', per_class=100)
  if name in ('toy1d', 'diabetes'):
    from ensdistill import data

    return data.load(name)
  if name == 'boston':
    return dataset('diabetes')
  small = tiny.dataset(size=256, classes=4, shape=shapes.get(name, (32, 32, 3)))
  return tiny.replace(small, targets=100 if name == 'cifar100' else 10)


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('variant', ['', 'small'])
def test_every_config_builds(name, variant):
  config = get(name, variant)
  assert config.name == '_'.join(filter(None, (name, variant)))
  config_lib.check(config)
  training = dataset(config.data.name)
  config_lib.check_fits(config, training.family)
  build.teacher_method(config, training)
  assert distil.phases(config, training)[-1].method.steps >= 1
  doc = importlib.import_module(f'configs.{name}').__doc__
  assert f'--config=configs/{name}.py' in doc


@pytest.mark.parametrize('name', common.PAPER)
def test_every_paper_variant_builds(name):
  config = get(name, 'paper')
  config_lib.check(config)
  training = dataset(config.data.name)
  config_lib.check_fits(config, training.family)
  build.teacher_method(config, training)
  assert distil.phases(config, training)
  doc = importlib.import_module(f'configs.{name}').__doc__
  assert f'--config=configs/{name}.py:paper' in doc


def test_a_layer_that_names_another_part_drops_the_old_ones_settings():
  config = get('end2_cifar10')
  assert config.network.name == 'vgg' and config.network.width is None
  for optimizer in config.teacher.optimizer, config.student.optimizer:
    assert optimizer.name == 'adam' and optimizer.momentum is None and optimizer.nesterov is None
  assert get('kd_cifar10').student.optimizer.momentum == 0.9
  small = get('end2_cifar10', 'small').network
  assert (small.name, small.depth, small.channels, small.dropout) == ('vgg', 11, 8, 0.5)


def test_the_networks_of_the_papers():
  student = lambda config, training: distil.phases(config, training)[-1].method

  def parameters(name, method):
    config, training = get(name, 'paper'), dataset(get(name).data.name)
    module = method(config, training).student.module
    example = jnp.zeros((1, *training.shape))
    params = jax.eval_shape(module.init, jax.random.key(0), example)['params']
    return sum(leaf.size for leaf in jax.tree.leaves(params))

  # ResNet-20, whose last block and dense layer are there fifty times.
  head = 2 * 9 * 64 * 64 + 2 * 2 * 64 + 650
  assert parameters('hydra_cifar10', build.teacher_method) == 272_474
  assert parameters('hydra_cifar10', student) == 272_474 + 49 * head
  latentbe = get('latentbe_cifar100', 'paper').network
  assert (latentbe.name, latentbe.depth, latentbe.width) == ('wide_resnet', 28, 4)
  assert parameters('end2_cifar10', student) == 19_986_378
  rates = lambda method: {
    stage.keywords['dropout'] for _, stage in method.student.module.backbone.stages
  }
  end2 = get('end2_cifar10'), dataset('cifar10')
  assert rates(build.teacher_method(*end2)) == {0.2, 0.5}
  assert rates(student(*end2)) == {0.2, 0.3}


@pytest.mark.parametrize(
  'name', [f for f in FILES if f.endswith(('_digits', '_spirals', '_toy1d'))]
)
def test_the_steps_of_every_method_have_shapes(name):
  """The files of other data sets have the same steps on other networks."""
  config = get(name)
  training = dataset(config.data.name)
  example = jnp.zeros((4, *training.shape))
  labels = jnp.zeros((4, *training.train.y.shape[1:]), training.train.y.dtype)
  batch = {'x': example, 'y': labels}
  teacher = build.teacher_method(config, training)

  def state_of(method):
    variables = jax.eval_shape(
      lambda: method.student.module.init(jax.random.key(0), example, False)
    )
    params, stats = variables['params'], variables.get('batch_stats', {})
    shape = lambda f, *a: jax.eval_shape(f, *a)
    key = shape(lambda: jax.random.key(0))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return train.TrainState(step, params, stats, shape(method.optimizer.init, params), key, key)

  member = state_of(teacher)
  stacked = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct((config.teacher.members, *s.shape), s.dtype), member.variables
  )
  jax.eval_shape(lambda s, b: train.train_step(s, b, None, teacher), member, batch)
  for phase in distil.phases(config, training):
    frozen = lambda v: members.frozen(teacher.student.module.apply, v)
    state, logs = jax.eval_shape(
      lambda s, b, v: train.train_step(s, b, frozen(v), phase.method),  # noqa: B023
      state_of(phase.method),
      batch,
      stacked,
    )
    assert logs['loss'].shape == ()
    assert jax.tree.structure(state) == jax.tree.structure(state_of(phase.method))


@pytest.mark.parametrize(
  'changes,message',
  [
    (
      {'student__kind': 'hydar'},
      r"unknown student 'hydar': did you mean 'multi_head'\? known: batch_ensemble, multi_head,",
    ),
    ({'student__kind': 'multihead'}, r"did you mean 'multi_head'\?"),
    ({'objective__name': 'dirichlett'}, "did you mean 'dirichlet'"),
    ({'perturb__name': 'confods'}, "did you mean 'conf_ods'"),
    ({'network__name': 'resnett'}, "did you mean 'resnet'"),
    ({'teacher__epochs': 3}, r'teacher.steps=6 and teacher.epochs=3: set exactly one'),
    ({'student__optimizer__schedule': 'cosin'}, "did you mean 'cosine'"),
    ({'objective__name': 'members'}, "set objective.name='mean', or student.kind='multi_head'"),
    ({'perturb__name': 'tdiv_sdiv'}, 'tdiv'),
    ({'perturb__name': 'tdiv', 'teacher__members': 1}, 'two'),
    ({'student__targets': 'stored', 'perturb__name': 'ods'}, "set student.targets='online'"),
    ({'student__targets': 'stored', 'augment__flip': True}, "set student.targets='clean_cache'"),
    (
      {'student__targets': 'clean_cache', 'augment__mixup': 0.2},
      "set student.targets='online' or augment.mixup=0",
    ),
    ({'augment__mixup': -0.2}, 'augment.mixup=-0.2 must not be negative'),
    ({'objective__name': 'none'}, 'set objective.label_weight=1'),
    ({'student__phases': 2}, "are for student.kind='multi_head'"),
    ({'objective__smoothing': 0.1}, "unknown setting of objective 'mean' 'smoothing'"),
    ({'student__view': 'averaged'}, "is for student.kind='batch_ensemble'"),
    ({'objective__label_weight': 2.0}, r'must be in \[0, 1\]'),
    ({'network__depth': 20}, "unknown setting of mlp 'depth'"),
    ({'objective__name': 'normal_wishart'}, 'regression|gaussian'),
    ({'student__optimizer__factor_decay': 'one'}, 'set student.optimizer.factor_decay=none'),
    (
      {'teacher__optimizer__schedule': 'one_cycle', 'teacher__optimizer__warmup': 0.1},
      'set teacher.optimizer.warmup=0',
    ),
    (
      {'teacher__optimizer__name': 'adam', 'teacher__optimizer__momentum': 0.9},
      "unknown setting of optimizer 'adam' 'momentum'. known: none",
    ),
    (
      {'student__optimizer__name': 'adamw', 'student__optimizer__nesterov': False},
      "unknown setting of optimizer 'adamw' 'nesterov'. known: none",
    ),
    ({'seeds': 0}, 'seeds=0 must be at least 1'),
    ({'data__workers': -1}, 'data.workers=-1 must be at least 0'),
    ({'data__stream': 'yes'}, "unknown data.stream 'yes'"),
    (
      {'augment__crop_area': 0.1, 'data__stream': 'off'},
      "augment.crop_area=0.1 .*: set data.stream='auto'",
    ),
    (
      {'augment__crop_area': 0.1, 'student__targets': 'stored'},
      r'augment is set \(crop_area\)',
    ),
    (
      {'student__batch_size': 100},
      r'batch_size=100 is larger than the training set \(48 examples\)',
    ),
  ],
)
def test_wrong_settings_fail_in_one_line(changes, message):
  config = tiny.config(**changes)
  training = tiny.dataset()
  with pytest.raises(ValueError, match=message) as error:
    config_lib.check(config)
    config_lib.check_fits(config, training.family)
    build.teacher_method(config, training)
    distil.phases(config, training)
  assert '\n' not in str(error.value)


def test_another_part_forgets_the_recipes_settings_that_it_lacks():
  config = get('kd_digits')
  config.objective.name, config.objective.form = 'proxy_dirichlet', 'forward'
  config.perturb.name = 'ods'
  config.student.optimizer.name = 'adam'
  overridden = {'objective.name', 'objective.form', 'network.name', 'perturb.name'}
  overridden |= {'student.optimizer.name'}
  config_lib.forget_replaced(config, overridden)
  assert config.objective.temperature is None and config.objective.form == 'forward'
  assert config.student.optimizer.momentum is None and config.teacher.optimizer.momentum == 0.9
  assert config.network.depth == 8  # the same network was named again
  config_lib.check(config)


def test_a_fingerprint_knows_what_decides_numbers():
  decisive = config_lib.decisive(tiny.config())
  for name in ('profile', 'checkpoint_seconds', 'teacher.dir', 'data.dir', 'workdir'):
    assert name not in decisive
  other = config_lib.decisive(tiny.config(student__steps=7))
  assert config_lib.differences(decisive, other) == ['student.steps: 6 -> 7']
  assert config_lib.fingerprint(decisive) != config_lib.fingerprint(other)
  assert config_lib.fingerprint(decisive) == config_lib.fingerprint(
    dict(reversed(decisive.items()))
  )


def test_optional_settings_come_from_the_parts_signatures():
  def part(shape, *, depth: int = 3, sizes: tuple[int, ...] = (1,), rate: float | None = None):
    del shape, depth, sizes, rate

  config = tiny.config()
  fields = config_lib.optional({'part': part})
  assert set(fields) == {'depth', 'sizes', 'rate'}
  assert config.network.depth is None and config.network.hidden == (8,)
  config.network.depth = 5
  with pytest.raises(TypeError):
    config.network.depth = 'five'
