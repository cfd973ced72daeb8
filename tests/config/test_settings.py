"""Settings: their names, layers, and what a newly chosen part forgets."""

import pytest
import tiny

from ensdistill import names, nets
from ensdistill.config import build, checks, identity, recipes, settings


def test_a_configuration_has_all_settings_and_no_other_ones():
  config = settings.default()
  settings.check_fields(config)
  assert config.is_locked and recipes.named('kd_digits').is_locked
  with config.unlocked():
    config.student.setps = 3
  with pytest.raises(ValueError, match="unknown setting 'student.setps': did you mean 'student.st"):
    settings.check_fields(config)
  with config.unlocked():
    del config.student.setps, config.evaluate.ood
  with pytest.raises(
    ValueError, match="the setting 'evaluate.ood' is missing: start from a recipe"
  ):
    settings.check_fields(config)


def test_a_layer_sets_names_and_sections():
  config = settings.default()
  settings.apply(config, {'student': {'steps': 7}, 'teacher.optimizer.rate': 0.3, 'seeds': 2})
  assert (config.student.steps, config.teacher.optimizer.rate, config.seeds) == (7, 0.3, 2)
  assert config.student.batch_size == 128
  with pytest.raises((KeyError, AttributeError)):
    settings.apply(config, {'student.setps': 7})


@pytest.mark.parametrize(
  'name, near',
  [
    ('optimizer.lr', ['student.optimizer.rate', 'teacher.optimizer.rate']),
    ('student.optimizer.learning_rate', ['student.optimizer.rate']),
    ('members', ['student.members', 'teacher.members']),
    ('objective.temprature', ['objective.temperature']),
    ('student.lr', ['student.optimizer.rate']),
    ('teacher.wd', ['teacher.optimizer.decay']),
    ('model', ['network.name']),
    ('data.dataset', ['data.name']),
    ('ensemble_size', ['teacher.members']),
    ('xyzzy', []),
  ],
)
def test_the_settings_that_a_wrong_name_may_mean(name, near):
  known = names.flatten(settings.default().to_dict())
  assert sorted(settings.nearest(name, known)) == near


def test_another_part_forgets_the_recipes_settings_that_it_lacks():
  config = recipes.named('kd_digits')
  config.objective.name, config.objective.form = 'proxy_dirichlet', 'forward'
  config.perturb.name = 'ods'
  config.student.optimizer.name = 'adam'
  overridden = {'objective.name', 'objective.form', 'network.name', 'perturb.name'}
  overridden |= {'student.optimizer.name'}
  settings.forget_replaced(config, overridden)
  assert config.objective.temperature is None and config.objective.form == 'forward'
  assert config.student.optimizer.momentum is None and config.teacher.optimizer.momentum == 0.9
  assert config.network.depth == 8  # the same network was named again
  checks.check(config, build.parts(config))


@pytest.mark.parametrize(
  'name, targets',
  [('kd_digits', 'auto'), ('be_kd_digits', 'auto'), ('end2_cifar10', 'clean_cache')],
)
def test_stored_outputs_change_targets_that_need_the_teacher(name, targets):
  config = recipes.named(name)
  config.teacher.outputs = 'outputs.npz'
  settings.forget_replaced(config, {'teacher.outputs'})
  assert config.student.targets == targets and config.teacher.members == 0
  checks.check(config, build.parts(config))  # `end2_cifar10` keeps its augmentation


@pytest.mark.parametrize(
  'name, size, kept',
  [
    ('digits', None, None),  # has no size
    ('npz:photos.npz', None, None),
    ('folder:photos', None, 64),
    ('tfds:flowers', 32, 32),
    ('digits', 32, 32),  # set by the user, and refused by loading
    ('digts', None, 64),  # an unknown set: loading raises the error
  ],
)
def test_other_data_forget_the_recipes_settings_that_they_lack(name, size, kept):
  config = recipes.named('kd_tiny_imagenet')
  config.data.name = name
  config.data.size = size or config.data.size
  settings.forget_replaced(config, {'data.name'} | ({'data.size'} if size else set()))
  assert config.data.size == kept


def test_settings_of_every_network_reach_teacher_and_student():
  config = tiny.config(network__init='fan_out', student__network__init_gain=1.0)
  assert build.network_settings(config.network)[1]['init'] == 'fan_out'
  name, found = build.network_settings(config.student.network, config.network)
  assert name == 'mlp' and (found['init'], found['init_gain']) == ('fan_out', 1.0)
  plan = tiny.plan(config, tiny.dataset())
  for method, gain in ((plan.teacher, 2**0.5), (plan.student, 1.0)):
    assert method.student.module.backbone.init == nets.initial.Fan('fan_out', gain)
  # An unset one is no part of a fingerprint, and another network keeps it.
  assert not {'network.init', 'network.init_gain'} & identity.decisive(tiny.config()).keys()
  config.network.name = 'resnet'
  settings.forget_replaced(config, {'network.name'})
  assert config.network.init == 'fan_out' and config.network.hidden is None


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


def test_what_a_crop_pads_with_is_no_augmentation_of_its_own():
  config = settings.default()
  settings.apply(config, {'augment.crop': 0, 'augment.pad': 'reflect'})
  assert settings.augmentations(config) == []
  settings.apply(config, {'augment.crop': 2, 'augment.flip': True})
  assert settings.augmentations(config) == ['crop', 'flip']
