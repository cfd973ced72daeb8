"""The recipes: a complete configuration for every method on every data set.

`make` lays settings over the package's defaults: the data set's, the method's, those of the pair,
and the variant's. A layer that names another network or optimiser drops the old one's settings.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from ensdistill import names
from ensdistill.config.recipes.data_sets import DATA, SMALL_NETWORKS, Settings
from ensdistill.config.recipes.experiments import common
from ensdistill.config.recipes.methods import METHODS
from ensdistill.config.recipes.methods import Method as Method
from ensdistill.config.recipes.pairs import PAIRS
from ensdistill.config.recipes.papers import PAPERS

VARIANTS = {
  '': 'the full recipe',
  'small': 'ends within minutes on two CPU cores',
  'paper': "as in the method's own paper (`list --papers`)",
  'paper2': 'a control, as in the paper of EnD²',
  'paper3': 'a control, as in Diversity Matters',
  'paper4': 'a control, as in the paper of LatentBE',
  'common': 'one protocol for all methods, on cifar10 and cifar100',
}


def _of_papers() -> dict[tuple[str, str], Settings]:
  """Return what the variants of papers, and `common`, change: {(recipe, variant): settings}."""
  found = {(recipe, 'common'): settings for recipe, settings in common.EXPERIMENTS.items()}
  for paper in PAPERS.values():
    for name, experiment in paper.experiments.items():
      recipe, _, variant = name.partition(':')
      if variant:
        found[recipe, variant] = experiment.settings
        if variant == 'paper' and recipe.startswith('kd_'):
          found[recipe, f'paper{paper.number}'] = experiment.settings
  return found


OF_PAPERS = _of_papers()


def make(method: str, data: str, variant: str = '') -> ConfigDict:
  """Return the configuration of a method on a data set, in a variant."""
  from ensdistill.config import settings  # imports JAX, which listing the recipes does not need

  _check('method', method, METHODS)
  _check('data set of the recipes', data, DATA)
  recipe = f'{method}_{data}'
  check_variant(recipe, variant)
  config = settings.default()
  config.name = f'{recipe}_{variant}' if variant else recipe
  settings.apply(config, DATA[data].settings)
  apply_method(config, method, DATA[data].task)
  if METHODS[method].auxiliary:
    config.data.aux = DATA[data].auxiliary
  settings.apply(config, PAIRS.get(recipe, {}))
  if variant == 'small':
    settings.apply(config, DATA[data].small)
    config.network.update(SMALL_NETWORKS.get(config.network.name, {}))
  settings.apply(config, OF_PAPERS.get((recipe, variant), {}))
  return config


def apply_method(config: ConfigDict, method: str, task: str) -> None:
  """Set the settings of a method for a task, 'classification' or 'regression'."""
  from ensdistill.config import settings

  _check('method', method, METHODS)
  settings.check_names(f'method {method!r}', METHODS[method].settings, config)
  settings.apply(config, METHODS[method].settings)
  if task == 'regression':
    _adapt_to_regression(config)


def config(method: str, data: str) -> Callable[..., ConfigDict]:
  """Return the `get_config` of a config file."""

  def get_config(variant: str = '') -> ConfigDict:
    return make(method, data, variant)

  return get_config


def named(recipe: str, variant: str = '') -> ConfigDict:
  """Return the configuration of a recipe such as 'hydra_cifar100'."""
  found = method_and_data(recipe)
  if found:
    return make(*found, variant)
  if recipe in METHODS:
    example = next(f'{recipe}_{data}' for data in DATA if fits(recipe, data))
    raise ValueError(
      f'{recipe} is a method: add a data set, such as {example}. '
      '`ensdistill list` shows all of them.'
    )
  if recipe in DATA:
    raise ValueError(
      f'{recipe} is a data set: put a method before it, such as kd_{recipe}. '
      '`ensdistill list` shows all of them.'
    )
  raise ValueError(unknown('recipe', recipe, all_names()))


def method_and_data(recipe: str) -> tuple[str, str] | None:
  """Return method and data set of a recipe's name, or None if there is no such recipe."""
  for data in DATA:
    method = recipe.removesuffix(f'_{data}')
    if method != recipe and method in METHODS:
      return method, data
  return None


def all_names() -> list[str]:
  """Return the names of all recipes whose method is for the data set's task."""
  return [f'{method}_{data}' for data in DATA for method in METHODS if fits(method, data)]


def fits(method: str, data: str) -> bool:
  """Return whether a method is for the data set's task."""
  return DATA[data].task in METHODS[method].tasks


def variants(recipe: str) -> list[str]:
  """Return the variants that a recipe has."""
  return [name for name in VARIANTS if name in ('', 'small') or (recipe, name) in OF_PAPERS]


def check_variant(recipe: str, variant: str) -> None:
  """Refuse a variant that the recipe does not have."""
  _check('variant', variant, VARIANTS)
  known = variants(recipe)
  if variant not in known:
    *others, last = [f'{recipe}:{name}' if name else recipe for name in known]
    raise ValueError(
      f'{recipe} has no variant {variant!r}, only {", ".join(others)} and {last}. '
      '`ensdistill list --papers` shows the recipes of papers.'
    )


def _check(kind, name, known) -> None:
  if name not in known:
    raise ValueError(unknown(kind, name, known))


def unknown(kind: str, name: str, known) -> str:
  """Return the message for an unknown name: the nearest known one, and how to list them all."""
  return f'unknown {kind} {name!r}{names.meant(name, known)} `ensdistill list` shows all of them.'


def _adapt_to_regression(config) -> None:
  """Adapt a recipe to regression: no temperature, no labels, dense heads.

  A temperature softens class probabilities, and there is no accuracy. One hidden layer more in
  each head would repeat most of the ensemble.
  """
  for section in (config.objective, config.perturb):
    if section.temperature is not None:
      section.temperature = 1.0
  if config.objective.label_weight < 1:
    config.objective.label_weight = 0.0
  if config.student.kind == 'multi_head':
    config.student.head_stages = 0
  config.student.select = 'nll'
