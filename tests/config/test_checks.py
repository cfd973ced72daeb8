"""The configuration: every file builds, wrong settings fail in one line before compiling."""

import functools
import importlib
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import data, distillation, members, nets
from ensdistill.config import build, checks, identity, settings
from ensdistill.training import step as train

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
common = importlib.import_module('configs.common')
FILES = sorted(
  p.stem for p in (ROOT / 'configs').glob('*.py') if p.stem not in ('common', '__init__')
)


def get(name, variant=''):
  return importlib.import_module(f'configs.{name}').get_config(variant)


IMAGES = {  # shape, classes
  'digits': ((8, 8, 1), 10),
  'mnist': ((28, 28, 1), 10),
  'fashion_mnist': ((28, 28, 1), 10),
  'cifar10': ((32, 32, 3), 10),
  'cifar100': ((32, 32, 3), 100),
  'folder:tiny-imagenet-200': ((64, 64, 3), 200),
  'folder:imagenet': ((224, 224, 3), 1000),
}


@functools.cache
def dataset(name):
  """Arrays of the right shape for a data set that need not be at hand."""
  if name == 'spirals':
    return data.load('spirals', per_class=100)
  if name in ('toy1d', 'diabetes'):
    return data.load(name)
  if name == 'boston':
    return dataset('diabetes')
  shape, classes = IMAGES[name]
  blank = np.broadcast_to(np.uint8(0), (256, *shape))  # of no size, whatever its shape
  split = data.Split(blank, np.zeros(256, np.int32))
  flat = {'mean': (0.3,) * shape[-1], 'std': (0.3,) * shape[-1]}
  parts = {'train': split, 'valid': split, 'test': split}
  streams = name == 'folder:imagenet'
  return tiny.replace(tiny.dataset(), name=name, targets=classes, streams=streams, **flat, **parts)


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('variant', ['', 'small'])
def test_every_config_builds(name, variant):
  config = get(name, variant)
  assert config.name == '_'.join(filter(None, (name, variant)))
  checks.check(config)
  training = dataset(config.data.name)
  checks.check_fits(config, training.family)
  build.teacher_method(config, training)
  assert distillation.phases(config, training)[-1].method.steps >= 1


@pytest.mark.parametrize('name', FILES)
def test_every_docstring_names_the_command_the_hardware_and_the_numbers(name):
  doc = importlib.import_module(f'configs.{name}').__doc__
  assert f'python -m ensdistill.main --config=configs/{name}.py' in doc
  *_, last = doc.rstrip().split('\n\n')
  assert re.search(r'\b(GPU|CPU cores)\b', last) and re.search(r'\b(Measured|Expected)\b', last)


@pytest.mark.parametrize('name', common.PAPER)
def test_every_paper_variant_builds(name):
  config = get(name, 'paper')
  checks.check(config)
  training = dataset(config.data.name)
  checks.check_fits(config, training.family)
  build.teacher_method(config, training)
  assert distillation.phases(config, training)
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
  student = lambda config, training: distillation.phases(config, training)[-1].method

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


@pytest.fixture
def few_stages(monkeypatch):
  """Networks of a few of their stages, which are there many times: a step is soon traced."""
  whole = nets.build

  def cut(name, **settings):
    backbone, (_, keep) = whole(name, form='plain', **settings), tiny.NETWORKS[name]
    return tiny.replace(backbone, stages=tuple(backbone.stages[i] for i in keep))

  monkeypatch.setattr(nets, 'build', cut)


def state_of(method, shape):
  """A network in training, as shapes."""

  def state():
    variables = method.student.module.init(jax.random.key(0), jnp.zeros((1, *shape)), False)
    params, stats = variables['params'], variables.get('batch_stats', {})
    key = jax.random.key(0)
    return train.TrainState(jnp.int32(0), params, stats, method.optimizer.init(params), key, key)

  return jax.eval_shape(state)


def check_step(config, section, training, arrays, method, teacher=None):
  """A step as a run does it: on a drawn and augmented batch; `teacher`: how to freeze, and what."""
  states = train.TrainState(*[None] * 5, order=jax.random.split(jax.random.key(0), 1))
  feed = build.feed(config, section, training, arrays, states, method.steps)
  freeze, variables = teacher or (None, None)

  def step(state, arrays, variables):
    batch = train.draw(
      arrays, state.order, state.step, batch=section.batch_size, augment=build.augmentation(config)
    )
    return train.train_step(state, batch, freeze and freeze(variables), method)

  seen = feed.shapes if isinstance(feed, data.Stream) else feed
  before = state_of(method, training.shape)
  after, logs = jax.eval_shape(step, before, seen, variables)
  assert logs['loss'].shape == ()
  assert jax.tree.map(lambda s: s.shape, after) == jax.tree.map(lambda s: s.shape, before)
  return before


_members = {}  # of the files that share a teacher


@functools.cache
def files_by_step():
  """{what a step computes: a file}: of files that differ in sizes and strengths the first."""
  files = {}
  for name in reversed(FILES):
    config = get(name)
    sections = ('student', 'objective', 'perturb')
    flat = identity.flatten({s: identity.to_json(config)[s] for s in sections})
    flat |= {'network': config.network.name, 'family': dataset(config.data.name).family}
    flat |= {'aux': bool(config.data.aux), 'streams': dataset(config.data.name).streams}
    flat |= {'augment': bool(build.augmentation(config))}
    sizes = ('student.steps', 'student.epochs', 'student.batch_size')
    plain = {k: bool(v) if isinstance(v, float) or k in sizes else v for k, v in flat.items()}
    files[str(sorted(plain.items()))] = name
  return files


@pytest.mark.parametrize('name', sorted(files_by_step().values()))
def test_the_steps_of_every_config_have_shapes(name, few_stages):
  """Teacher's and student's; with draws, augmentation, auxiliary inputs and targets of a run."""
  config = get(name)
  clean = dataset(config.data.name)
  teacher = build.teacher_method(config, clean)
  shared = str((clean.name, config.network, config.teacher, config.augment))
  if shared not in _members:
    arrays = build.arrays(clean.train, clean)
    _members[shared] = check_step(config, config.teacher, clean, arrays, teacher)
  stacked = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct((config.teacher.members, *s.shape), s.dtype),
    _members[shared].variables,
  )
  freeze = lambda variables: members.frozen(teacher.student.module.apply, variables)

  auxiliary = np.zeros((16, *clean.shape), np.uint8)
  training = data.join(clean, auxiliary) if config.data.aux else clean
  arrays = build.arrays(training.train, training)
  frozen = freeze, stacked
  if config.student.targets != 'online':
    outputs = lambda variables, x: freeze(variables).outputs(data.as_input(x))
    arrays['teacher_outputs'] = jax.eval_shape(outputs, stacked, training.train.x)
    frozen = None
  for phase in distillation.phases(config, training):
    check_step(config, config.student, training, arrays, phase.method, frozen)


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
    checks.check(config)
    checks.check_fits(config, training.family)
    build.teacher_method(config, training)
    distillation.phases(config, training)
  assert '\n' not in str(error.value)


def test_another_part_forgets_the_recipes_settings_that_it_lacks():
  config = get('kd_digits')
  config.objective.name, config.objective.form = 'proxy_dirichlet', 'forward'
  config.perturb.name = 'ods'
  config.student.optimizer.name = 'adam'
  overridden = {'objective.name', 'objective.form', 'network.name', 'perturb.name'}
  overridden |= {'student.optimizer.name'}
  settings.forget_replaced(config, overridden)
  assert config.objective.temperature is None and config.objective.form == 'forward'
  assert config.student.optimizer.momentum is None and config.teacher.optimizer.momentum == 0.9
  assert config.network.depth == 8  # the same network was named again
  checks.check(config)


@pytest.mark.parametrize(
  'name, size, kept',
  [
    ('digits', None, None),  # which has no size
    ('npz:photos.npz', None, None),
    ('folder:photos', None, 64),
    ('tfds:flowers', 32, 32),
    ('digits', 32, 32),  # set by the user, and refused when it is loaded
    ('digts', None, 64),  # an unknown set, which loading it says
  ],
)
def test_other_data_forget_the_recipes_settings_that_they_lack(name, size, kept):
  config = get('kd_tiny_imagenet')
  config.data.name = name
  config.data.size = size or config.data.size
  settings.forget_replaced(config, {'data.name'} | ({'data.size'} if size else set()))
  assert config.data.size == kept


@pytest.mark.parametrize(
  'changes,streams,found',
  [
    ({}, False, 'stored'),
    ({}, True, 'online'),
    ({'perturb.name': 'gaussian'}, False, 'online'),
    ({'augment.flip': True}, False, 'online'),
    ({'objective.name': 'none', 'objective.label_weight': 1.0}, False, 'online'),
    ({'student.targets': 'clean_cache', 'augment.flip': True}, False, 'clean_cache'),
  ],
)
def test_targets_are_stored_by_themselves_only_where_that_is_exact(changes, streams, found):
  config = get('kd_digits')
  assert config.student.targets == 'auto'
  config.update_from_flattened_dict(changes)
  settings.forget_replaced(config, set(changes))
  checks.check(config)
  checks.settle_targets(config, streams)
  assert config.student.targets == found
  checks.check(config)


def test_a_fingerprint_knows_what_decides_numbers():
  decisive = identity.decisive(tiny.config())
  for name in ('profile', 'checkpoint_seconds', 'teacher.dir', 'data.dir', 'workdir'):
    assert name not in decisive
  other = identity.decisive(tiny.config(student__steps=7))
  assert identity.differences(decisive, other) == ['student.steps: 6 -> 7']
  assert identity.fingerprint(decisive) != identity.fingerprint(other)
  assert identity.fingerprint(decisive) == identity.fingerprint(dict(reversed(decisive.items())))


def test_optional_settings_come_from_the_parts_signatures():
  def part(shape, *, depth: int = 3, sizes: tuple[int, ...] = (1,), rate: float | None = None):
    del shape, depth, sizes, rate

  config = tiny.config()
  fields = settings.optional({'part': part})
  assert set(fields) == {'depth', 'sizes', 'rate'}
  assert config.network.depth is None and config.network.hidden == (8,)
  config.network.depth = 5
  with pytest.raises(TypeError):
    config.network.depth = 'five'
