"""The experiments of the papers against a literal table of the papers' settings.

The table is written from the papers and their authors' code, not from the recipes.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shaped
import tiny

from ensdistill.config import build, member_identity, recipes
from ensdistill.nets import initial
from ensdistill.training import optim, validations

SIZES = {'cifar10': 50_000, 'cifar100': 50_000, 'tiny_imagenet': 100_000}


class Stage(NamedTuple):
  """The literal setting of the ensemble or of the student."""

  epochs: int
  batch: int
  rates: dict[float, float]  # {number of epochs that have passed: rate}
  decay: float
  select: str
  optimizer: str = 'sgd'
  nesterov: bool | None = None
  clip: float = 0.0


class Setting(NamedTuple):
  """The literal setting of a paper on a data set."""

  members: int
  valid: int
  validated: set[int] | None  # after which epochs of the student; None: never
  augment: dict[str, Any]
  first: float  # initial standard deviation of the first layer
  head: float  # and of the last
  ensemble: Stage
  student: Stage


CROP_4 = {'crop': 4, 'flip': True}
# Paper 2. First layer: 27 inputs, gain 1; last layer: 2048 inputs.
VGG = Setting(
  members=100,
  valid=0,
  validated=None,
  augment={'crop': 4, 'pad': 'reflect', 'rotate': 15.0, 'flip': True},
  first=1 / math.sqrt(27),
  head=1 / math.sqrt(2048),
  ensemble=Stage(
    45, 128, {0: 1e-3, 7.5: 5.5e-3, 15: 1e-2, 30: 1e-3, 45: 1e-6}, 0.0, 'last', 'adam'
  ),
  student=Stage(
    90, 128, {0: 1e-3, 15: 5.5e-3, 30: 1e-2, 60: 1e-3, 90: 1e-6}, 0.0, 'last', 'adam', clip=10.0
  ),
)
# Paper 3. Epoch e, from 1, begins after e - 1 epochs. First layer: 144 outputs a pixel.
WRN_28_10 = Setting(
  members=4,
  valid=5_000,
  validated={1, *range(30, 270, 30), *range(270, 301)},
  augment=CROP_4,
  first=math.sqrt(2 / 144),
  head=math.sqrt(2 / 100),
  ensemble=Stage(
    300, 256, {0: 0.002, 4: 0.2, 149.5: 0.2, 209: 0.101, 269: 0.002, 299: 0.002}, 5e-4, 'acc',
    nesterov=False,
  ),
  student=Stage(
    300, 64, {0: 5e-4, 0.9: 5e-4, 4: 0.05, 149.5: 0.05, 209: 0.02525, 269: 5e-4, 299: 5e-4}, 5e-4,
    'member_acc', nesterov=False,
  ),
)  # fmt: skip
RESNET_32 = WRN_28_10._replace(
  validated={1, *range(25, 225, 25), *range(225, 251)},
  head=math.sqrt(2 / 10),
  ensemble=Stage(
    200, 512, {0: 0.004, 4: 0.4, 99.5: 0.4, 139: 0.202, 179: 0.004, 199: 0.004}, 4e-4, 'acc',
    nesterov=False,
  ),
  student=Stage(
    250, 128, {0: 0.001, 4: 0.1, 124.5: 0.1, 174: 0.0505, 224: 0.001, 249: 0.001}, 4e-4,
    'member_acc', nesterov=False,
  ),
)  # fmt: skip
# Paper 4. First layer: 27 inputs; last layer: 64 times the width.
COSINE = Stage(
  200, 128, {0: 0.0, 2.5: 0.05, 5: 0.1, 102.5: 0.05, 200: 0.0}, 5e-4, 'acc', nesterov=True
)
WRN_28_4 = Setting(
  members=4,
  valid=5_000,
  validated={1, *range(20, 180, 20), *range(180, 201)},
  augment=CROP_4,
  first=math.sqrt(2 / 27),
  head=math.sqrt(2 / 256),
  ensemble=COSINE,
  student=COSINE,
)
SETTINGS = {
  (2, 'cifar10'): VGG,
  (2, 'cifar100'): VGG,
  (2, 'tiny_imagenet'): VGG,
  (3, 'cifar10'): RESNET_32,
  (3, 'cifar100'): WRN_28_10,
  (3, 'tiny_imagenet'): WRN_28_10._replace(valid=10_000, head=math.sqrt(2 / 200)),
  (4, 'cifar10'): WRN_28_4._replace(head=math.sqrt(2 / 64)),
  (4, 'cifar100'): WRN_28_4,
  (4, 'tiny_imagenet'): WRN_28_4._replace(valid=10_000),
}
# What the student of a control has instead.
CONTROLS = {
  (2, 'single'): {'epochs': 45, 'rates': VGG.ensemble.rates, 'clip': 0.0},
  (3, 'kd'): {'select': 'acc'},
  (3, 'kd_gaussian'): {'select': 'acc'},
  (4, 'end2_proxy'): {'clip': 10.0},  # ours
}
# Temperature and weight of the labels, of all methods but those on labels alone.
LOSS = {
  (3, 'cifar10'): (4.0, 0.1),
  (3, 'cifar100'): (1.0, 0.1),
  (3, 'tiny_imagenet'): (1.0, 0.1),
  (4, 'cifar10'): (4.0, 0.0),
  (4, 'cifar100'): (4.0, 0.0),
  (4, 'tiny_imagenet'): (4.0, 0.0),
}
# {recipe: (paper, method, data set, recipe)} of the experiments on images
ROWS = {
  name: (paper.number, *recipes.method_and_data(name.partition(':')[0]), name)
  for paper in recipes.PAPERS.values()
  for name in paper.experiments
  if paper.number > 1 and ':' in name
}
EVERY = pytest.mark.parametrize('row', ROWS.values(), ids=ROWS)


@functools.cache
def plan_of(name):
  config = recipes.named(*name.split(':'))
  return tiny.checked_plan(config, shaped.dataset(config.data.name))


def expected_student(number, method, data):
  setting = SETTINGS[number, data]
  if (number, method) == (3, 'single'):
    return setting.ensemble
  return setting.student._replace(**CONTROLS.get((number, method), {}))


@EVERY
def test_lengths_rates_and_selection(row):
  number, method, data, name = row
  plan, setting = plan_of(name), SETTINGS[number, data]
  config, size = plan.config, SIZES[data] - setting.valid
  student = expected_student(number, method, data)
  assert config.teacher.members == setting.members
  assert config.data.valid == setting.valid
  for section, built, stage in (
    (config.teacher, plan.teacher, setting.ensemble),
    (config.student, plan.student, student),
  ):
    assert (section.epochs, section.batch_size) == (stage.epochs, stage.batch)
    assert built.select == stage.select
    settings = build.optimizer_settings(section, size)
    assert settings['name'] == stage.optimizer
    assert settings.get('momentum') == (0.9 if stage.optimizer == 'sgd' else None)
    assert settings.get('nesterov') == stage.nesterov
    assert settings['clip'] == stage.clip
    assert settings['decay'] == stage.decay and settings['decay_on'] == 'all'
    keys = {'schedule': 'name', 'rate': 'peak', 'warmup': 'warmup', 'epoch': 'epoch'}
    rate = optim.rates(
      steps=build.steps(section, size),
      **{keys[key]: value for key, value in settings.items() if key in keys},
    )
    for epochs, wanted in stage.rates.items():
      at = round(epochs * (size // stage.batch))
      np.testing.assert_allclose(rate(at), wanted, rtol=2e-3, atol=1e-9, err_msg=str(epochs))
  if setting.validated is None:
    assert not config.validate
  elif (number, method) != (3, 'single'):
    epoch = size // student.batch
    found = validations.at_steps(config.validate, student.epochs * epoch, epoch)
    assert found == {epoch * number for number in setting.validated}


@EVERY
def test_augmentation_initial_weights_and_loss(row):
  number, method, data, name = row
  plan, setting = plan_of(name), SETTINGS[number, data]
  config = plan.config
  found = {key: value for key, value in config.augment.items() if value is not None}
  assert found == setting.augment
  for built in (plan.teacher, plan.student):
    _, deviations = initial_of(built)
    kernels = [std for path, std in deviations.items() if path.endswith('kernel')]
    np.testing.assert_allclose([kernels[0], kernels[-1]], [setting.first, setting.head], rtol=1e-6)
  objective = plan.student.objective
  if objective.name in ('none', 'prior_network'):
    assert config.objective.label_weight == 1 and config.objective.beta in (None, 100.0)
  elif number == 2:
    assert config.objective.label_weight == 0
    assert config.student.targets == 'clean_cache'  # on unaugmented images
  elif method != 'end2_proxy':
    temperature, weight = LOSS[number, data]
    assert objective.loss.keywords['temperature'] == temperature
    assert config.objective.label_weight == weight
    if method in ('be_ods', 'be_confods'):
      assert config.perturb.temperature == temperature
    assert config.objective.labels_on == (
      'perturbed' if method == 'latentbe_tdiv_sdiv' else 'clean'
    )
  assert config.evaluate.ood == ('lsun' if number == 2 else 'default')


@pytest.mark.parametrize('method', ['end', 'end_aux', 'end2', 'end2_aux'])
@pytest.mark.parametrize(
  'data', ['cifar10:paper', 'cifar100:paper', 'tiny_imagenet:paper', 'digits']
)
def test_the_temperature_of_end2(method, data):
  """It is 10 for a third of the run, and falls to 1 in the second third."""
  objective = plan_of(f'{method}_{data}').student.objective
  found = [
    float(objective.schedule(jnp.float32(e / 90))['temperature']) for e in (0, 30, 45, 60, 90)
  ]
  np.testing.assert_allclose(found, [10, 10, 5.5, 1, 1], rtol=1e-4)
  if method.startswith('end2'):
    assert objective.loss.keywords['smoothing'] == 1e-3


def initial_of(method):
  """Return the number of parameters, and {path: initial standard deviation}."""
  module, deviations = method.student.module, {}
  example = jnp.zeros((1, *module.backbone.shape))

  def report(call, args, kwargs, context):
    if context.method_name == 'parameter' and isinstance(args[1], initial.Distribution):
      path = '/'.join((*context.module.path, args[0]))
      deviations[path] = args[1].moments(args[2])[1]
    return call(*args, **kwargs)

  with nn.intercept_methods(report):
    params = jax.eval_shape(lambda key: module.init(key, example), jax.random.key(0))['params']
  return sum(leaf.size for leaf in jax.tree.leaves(params)), deviations


@pytest.mark.parametrize(
  'name, count',
  [
    ('single_cifar10:paper4', 369_498),
    ('kd_cifar100:paper', 5_872_180),
    ('single_cifar100:paper3', 36_536_884),
    ('kd_cifar10:common', 369_498),
    ('end2_cifar100:common', 5_872_180),
    ('hydra_cifar10:paper', 272_474 + 49 * (2 * 9 * 64 * 64 + 2 * 2 * 64 + 650)),
    # Convolutions, batch norm, and dense layers 25088 -> 2048 -> 2048 -> 10.
    ('end2_cifar10:paper', 14_710_464 + 8_448 + 51_382_272 + 4_196_352 + 20_490),
  ],
)
def test_numbers_of_parameters(name, count):
  assert initial_of(plan_of(name).student)[0] == count


def second_step(name, gradient):
  """Return what the second step of a student subtracts from its parameters, over its rate."""
  method = plan_of(name).student
  values = {'kernel': 2.0, 'scale': 2.0, 'bias': 2.0, 'r': 3.0, 's': 3.0}
  params = {'layer': {key: jnp.full((2,), value) for key, value in values.items()}}
  state = method.optimizer.init(params)
  gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
  for _ in range(2):
    updates, state = method.optimizer.update(gradients, state, params)
  return {key: float(value[0]) for key, value in updates['layer'].items()}


@pytest.mark.parametrize('data', SIZES)
def test_what_decays_and_the_steps_of_rank_one_factors(data):
  """Paper 3: half the rate, no decay. Paper 4: M times the gradient, decay to one."""
  for method in ('be_kd', 'be_gaussian', 'be_ods', 'be_confods'):
    found = second_step(f'{method}_{data}:paper', 0.0)
    assert found['r'] == found['s'] == 0
    assert found['kernel'] == found['scale'] == found['bias'] < 0
    pulled = second_step(f'{method}_{data}:paper', 1e4)
    np.testing.assert_allclose(pulled['r'] / pulled['kernel'], 0.5, rtol=1e-5)
    deviations = initial_of(plan_of(f'{method}_{data}:paper').student)[1]
    assert deviations['head/r'] == deviations['head/s'] == 0.5
  for method in ('latentbe', 'latentbe_tdiv_sdiv'):
    found = second_step(f'{method}_{data}:paper', 0.0)
    np.testing.assert_allclose(found['r'] / found['kernel'], (3 - 1) / 2, rtol=1e-5)
    assert found['kernel'] == found['scale'] == found['bias'] < 0
    pulled = second_step(f'{method}_{data}:paper', 1e4)
    np.testing.assert_allclose(pulled['r'] / pulled['kernel'], 4, rtol=1e-5)
    student = plan_of(f'{method}_{data}:paper').student
    assert student.view == 'student-averaged' and student.student.module.bias == 'shared'


def test_hydra_proxy_and_auxiliary_sets():
  for name in ('hydra_cifar10:paper', 'hydra_mnist:paper', 'hydra_uci:paper'):
    config = plan_of(name).config
    assert config.teacher.members == 50 and config.student.phases == 2
  uci = plan_of('hydra_uci:paper').config
  assert (uci.network.hidden, uci.student.network.hidden) == ((100, 100), (50,))
  assert (uci.teacher.loss, uci.teacher.variance) == ('least_squares', 'scalar')
  assert recipes.named('end2_proxy_imagenet', 'paper').objective.form == 'forward'
  assert recipes.named('end_aux_cifar10', 'paper').data.aux == 'cifar100'


@pytest.mark.parametrize('data', ['cifar10', 'cifar100'])
def test_all_methods_have_one_protocol_in_common(data):
  """They share the ensemble, the schedule, the split and the selection."""
  found = [method for method in recipes.METHODS if recipes.fits(method, data)]
  ensembles = set()
  for method in found:
    plan = plan_of(f'{method}_{data}:common')
    config, optimizer = plan.config, plan.config.student.optimizer
    ensembles.add(str(member_identity.settings(config, plan.dataset)))
    assert (config.data.valid, config.teacher.members) == (5_000, 4)
    assert config.validate == 'first,every=20,tail=0.1'
    for section in (config.teacher, config.student):
      assert (section.epochs, section.batch_size) == (200, 128)
      assert (section.keep, section.select) == ('best', 'acc')
    assert (optimizer.name, optimizer.rate, optimizer.schedule) == ('sgd', 0.1, 'cosine')
    assert (optimizer.warmup, optimizer.decay, optimizer.nesterov) == (0.025, 5e-4, True)
    width = {'cifar10': 1, 'cifar100': 4}[data]
    networks = {
      build.network_settings(s, config.network)[1]['width']
      for s in (config.network, config.student.network)
    }
    assert networks == {width} and config.student.network.dropout is None
  assert len(ensembles) == 1
