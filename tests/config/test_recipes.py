"""The recipes: every pair builds, config files name them, and literal values stay."""

import ast
import importlib.util
import json
import re

import jax
import jax.numpy as jnp
import pytest
import shaped
import tiny
from shaped import dataset

from ensdistill import names
from ensdistill.commands import readme
from ensdistill.config import build, checks, recipes
from ensdistill.config.recipes import DATA, METHODS, PAPERS, VARIANTS


def check_builds(config):
  plan = tiny.checked_plan(config, dataset(config.data.name))
  assert plan.teacher.steps >= 1 and plan.student.steps >= 1


@pytest.mark.parametrize('data', DATA)
def test_every_recipe_builds(data):
  for method in METHODS:
    if recipes.fits(method, data):
      for variant in ('', 'small'):
        config = recipes.make(method, data, variant)
        assert config.name == '_'.join(filter(None, (method, data, variant)))
        assert bool(config.data.aux) == METHODS[method].auxiliary
        check_builds(config)


@pytest.mark.parametrize('variant', list(VARIANTS)[2:])
def test_every_variant_of_the_papers_builds(variant):
  found = [recipe for recipe, name in recipes.OF_PAPERS if name == variant]
  assert len(found) >= 9
  for recipe in found:
    config = recipes.named(recipe, variant)
    assert config.name == f'{recipe}_{variant}'
    check_builds(config)


@pytest.mark.parametrize('data', DATA)
def test_other_pairs_are_refused_with_the_reason(data):
  for method in METHODS:
    config = recipes.make(method, data)
    if not recipes.fits(method, data):
      parts = build.parts(config)
      checks.check(config, parts)
      if config.objective.name == 'mean':
        continue  # `end` is `kd` without a temperature here: nothing to refuse
      with pytest.raises(ValueError, match='regression|outputs'):
        checks.check_fits(config, parts, dataset(config.data.name).family)


@pytest.mark.parametrize('name', shaped.FILES)
def test_every_config_file_is_three_statements(name):
  path = shaped.ROOT / 'configs' / f'{name}.py'
  tree = ast.parse(path.read_text())
  assert len(tree.body) == 3
  doc = ast.get_docstring(tree)
  assert len(doc.splitlines()) == 3
  assert doc.endswith(f'\n\npython -m ensdistill.main --config=configs/{name}.py')
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  assert module.get_config().name == name
  assert module.get_config('small').to_dict() == recipes.named(name, 'small').to_dict()


def test_the_table_of_recipes_is_up_to_date():
  """`python -m ensdistill.commands.readme configs` writes it."""
  folder = shaped.ROOT / 'configs'
  measured = json.loads((folder / 'measured.json').read_text())
  assert sorted(measured) == shaped.FILES
  for row in measured.values():
    assert list(row) == ['measured', 'published', 'hardware', 'time']
    assert row['measured'] and re.search(r'\b(GPU|CPU cores)\b', row['hardware'])
  assert (folder / 'README.md').read_text() == readme.markdown(measured)


# Values that decide numbers of recipes: a change here changes the runs of users.
LITERAL = {
  'kd_digits': {
    'network.depth': 8, 'teacher.steps': 150, 'teacher.members': 4, 'student.steps': 250,
    'student.targets': 'auto', 'objective.temperature': 4.0, 'student.optimizer.rate': 0.1,
  },
  'hydra_cifar100': {
    'network.depth': 28, 'network.width': 4, 'teacher.epochs': 200, 'student.epochs': 200,
    'student.phases': 2, 'student.head_stages': 1, 'objective.temperature': 4.0,
    'student.optimizer.momentum': 0.9, 'student.optimizer.warmup': 0.025, 'augment.crop': 4,
  },
  'hydra_uci:paper': {
    'network.hidden': (100, 100), 'student.network.hidden': (50,), 'teacher.members': 50,
    'teacher.loss': 'least_squares', 'student.head_stages': 0, 'objective.temperature': 1.0,
    'teacher.optimizer.decay': 0.3, 'student.optimizer.decay': 0.0, 'student.steps': 10000,
  },
  'end2_aux_cifar10:paper': {
    'network.name': 'vgg', 'network.dropout': 0.5, 'student.network.dropout': 0.3,
    'teacher.epochs': 45, 'student.epochs': 90, 'teacher.members': 100, 'data.aux': 'cifar100',
    'student.targets': 'clean_cache', 'teacher.optimizer.clip': 0.0,
    'student.optimizer.clip': 10.0, 'student.optimizer.schedule': 'one_cycle',
  },
  'be_confods_cifar100:paper': {
    'network.width': 10, 'student.batch_size': 64, 'student.optimizer.rate': 0.05,
    'student.optimizer.factor_rate': 0.5, 'student.optimizer.nesterov': False,
    'objective.temperature': 1.0, 'perturb.temperature': 1.0, 'objective.label_weight': 0.1,
  },
  'latentbe_tdiv_sdiv_fashion_mnist:small': {
    'network.depth': 8, 'student.steps': 200, 'student.epochs': 0, 'data.limit': 4000,
    'student.view': 'averaged', 'student.optimizer.factor_scale': 'members', 'scores': 5,
    'objective.labels_on': 'perturbed',
  },
  'be_gaussian_diabetes': {
    'objective.label_weight': 0.0, 'objective.temperature': 1.0, 'student.targets': 'auto',
    'teacher.optimizer.decay': 3.0, 'student.optimizer.decay': 0.3,
  },
  'hydra_imagenet': {
    'teacher.order': 'shared', 'augment.crop_area': 0.08, 'student.optimizer.decay': 1e-4,
  },
}  # fmt: skip


@pytest.mark.parametrize('name', LITERAL)
def test_literal_values(name):
  found = names.flatten(recipes.named(*name.split(':')).to_dict())
  assert {setting: found[setting] for setting in LITERAL[name]} == LITERAL[name]


def test_wrong_names_have_the_nearest_known_one():
  for wrong, message in (
    (('hydra_cifr100',), "unknown recipe 'hydra_cifr100': did you mean 'hydra_cifar100'"),
    (('kd_digits', 'smal'), "unknown variant 'smal': did you mean 'small'"),
    (('kd_digits', 'paper'), "kd_digits has no variant 'paper', only kd_digits and"),
    (('be_uci', 'paper3'), "no variant 'paper3', only be_uci and be_uci:small. `ensdistill list"),
    (('hydra_uci', 'common'), 'only hydra_uci, hydra_uci:small and hydra_uci:paper'),
  ):
    with pytest.raises(ValueError, match=message) as error:
      recipes.named(*wrong)
    assert len(str(error.value)) < 200
  with pytest.raises(ValueError, match="unknown method 'hydr': did you mean 'hydra'"):
    recipes.make('hydr', 'digits')
  with pytest.raises(ValueError, match="did you mean 'digits'"):
    recipes.make('kd', 'digit')


def test_papers_name_methods_and_recipes():
  of_papers = [method for paper in PAPERS.values() for method in paper.methods]
  assert sorted(of_papers) == sorted(set(METHODS) - {'single'})
  assert recipes.variants('kd_cifar10') == list(VARIANTS)
  assert recipes.variants('end2_cifar100') == ['', 'small', 'paper', 'common']
  assert recipes.variants('kd_digits') == ['', 'small']
  assert 'arXiv:2001.04694' in PAPERS['Hydra'].citation


def test_a_layer_with_another_part_drops_the_settings_of_the_old_part():
  config = recipes.named('end2_cifar10')
  assert config.network.name == 'vgg' and config.network.width is None
  for optimizer in config.teacher.optimizer, config.student.optimizer:
    assert optimizer.name == 'adam' and optimizer.momentum is None and optimizer.nesterov is None
  assert recipes.named('kd_cifar10').student.optimizer.momentum == 0.9
  small = recipes.named('end2_cifar10', 'small').network
  assert (small.name, small.depth, small.channels, small.dropout) == ('vgg', 11, 8, 0.5)


def test_the_networks_of_the_papers():
  def plan(name, variant=''):
    config = recipes.named(name, variant)
    return tiny.plan(config, dataset(config.data.name))

  def parameters(method):
    module = method.student.module
    example = jnp.zeros((1, *module.backbone.shape))
    params = jax.eval_shape(module.init, jax.random.key(0), example)['params']
    return sum(leaf.size for leaf in jax.tree.leaves(params))

  # ResNet-20 with fifty copies of its last block and dense layer.
  head = 2 * 9 * 64 * 64 + 2 * 2 * 64 + 650
  hydra = plan('hydra_cifar10', 'paper')
  assert parameters(hydra.teacher) == 272_474
  assert parameters(hydra.student) == 272_474 + 49 * head
  latentbe = recipes.named('latentbe_cifar100', 'paper').network
  assert (latentbe.name, latentbe.depth, latentbe.width) == ('wide_resnet', 28, 4)
  assert parameters(plan('end2_cifar10').student) == 19_986_378

  def rates(method):
    return {stage.keywords['dropout'] for _, stage in method.student.module.backbone.stages}

  end2 = plan('end2_cifar10')
  assert rates(end2.teacher) == {0.2, 0.5}
  assert rates(end2.student) == {0.2, 0.3}
