"""A step of every recipe has shapes: teacher's and student's, on drawn and augmented batches."""

import functools

import pytest
import recipe_steps
import shaped

from ensdistill import names, nets
from ensdistill.config import identity, inputs, recipes


@pytest.fixture
def few_stages(monkeypatch):
  monkeypatch.setattr(nets, 'build', functools.partial(recipe_steps.few_stages, nets.build))


def by_step(recipe_names):
  """Return {what a step computes: a recipe}, one of those that differ in sizes alone."""
  found = {}
  for name in reversed(recipe_names):
    config = recipes.named(*name.split(':'))
    sections = ('student', 'objective', 'perturb')
    flat = names.flatten({s: identity.to_json(config)[s] for s in sections})
    flat |= {'network': config.network.name, 'family': shaped.dataset(config.data.name).family}
    flat |= {'aux': bool(config.data.aux), 'streams': shaped.dataset(config.data.name).streams}
    flat |= {'augment': bool(inputs.augmentation(config))}
    sizes = ('student.steps', 'student.epochs', 'student.batch_size')
    plain = {k: bool(v) if isinstance(v, float) or k in sizes else v for k, v in flat.items()}
    found[str(sorted(plain.items()))] = name
  return found


@pytest.mark.parametrize('name', sorted(by_step(shaped.FILES).values()))
def test_the_steps_of_every_config_have_shapes(name, few_stages):
  recipe_steps.check(recipes.named(name))


OF_PAPERS = [name for paper in recipes.PAPERS.values() for name in paper.experiments]
REST = set(OF_PAPERS) - set(by_step(OF_PAPERS).values())  # differ from others in sizes alone


@pytest.mark.parametrize(
  'name',
  [pytest.param(name, marks=[pytest.mark.slow] * (name in REST)) for name in OF_PAPERS],
)
def test_the_steps_of_every_experiment_of_the_papers_have_shapes(name, few_stages):
  recipe_steps.check(recipes.named(*name.split(':')))
