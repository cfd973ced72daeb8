"""Bounds: every numeric setting has them, and nothing outside of them passes."""

import math

import pytest
import tiny

from ensdistill import names
from ensdistill.config import bounds, build, recipes, settings

NUMERIC = {name: kind for name, kind, _ in bounds.numbers(settings.default())}


def test_every_numeric_setting_has_bounds_and_no_other_has():
  flat = names.flatten(settings.default().to_dict())
  assert NUMERIC.keys() <= flat.keys() and {'seed', 'network.hidden'} <= NUMERIC.keys()
  assert not [name for name in NUMERIC if bounds.of(name) is None]
  unused = [
    suffix for suffix in bounds.BOUNDS if not any(f'.{n}'.endswith(f'.{suffix}') for n in NUMERIC)
  ]
  assert not unused


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('name', sorted(n for n, kind in NUMERIC.items() if kind is float))
def test_no_number_may_be_nan_or_infinite(name, value):
  config = tiny.config(**{name: value})
  with pytest.raises(ValueError, match=rf'^{name}={value} must be a finite number in '):
    build.parts(config)


@pytest.mark.parametrize('name', sorted(NUMERIC))
def test_values_beyond_the_ends_are_refused_by_name_with_the_range(name):
  limits, kind = bounds.of(name), NUMERIC[name]
  step = 1 if kind is not float else 1e-6
  outside = [limits.low - step, limits.high + step * max(1, abs(limits.high))]
  outside += [limits.low] * limits.open_low + [limits.high] * limits.open_high
  for value in outside:
    value = float(value) if kind is float else int(value)
    config = tiny.config(**{name: (value,) if kind is tuple else value})
    with pytest.raises(ValueError) as error:
      bounds.check(config)
    text = str(error.value)
    assert text.startswith(f'{name}=') and str(limits) in text and '\n' not in text


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('network.hidden', (8, math.nan), r'network.hidden=\(8, nan\) must be whole numbers in \['),
    ('network.hidden', (8, (4, math.inf)), r'network.hidden=\(8, \(4, inf\)\) must be whole'),
    ('network.hidden', (8.5,), 'must be whole numbers'),
    ('seeds', True, 'seeds=True must be a whole number'),
    pytest.param('seed', 10**5000, r'seed=10\^5000 must be a whole number in \[0, 4', id='huge'),
    ('data.valid', -1, r'data.valid=-1 must be a whole number in \[0, '),
  ],
)
def test_odd_values_are_refused(name, value, message):
  with pytest.raises(ValueError, match=message):
    bounds.check(tiny.config(**{name: value}))


def test_the_recipes_lie_within_the_bounds():
  for name in ('kd_digits', 'hydra_cifar100:small', 'latentbe_cifar100', 'end2_cifar10'):
    bounds.check(recipes.named(*name.split(':')))


def test_a_run_of_more_steps_than_int32_counts_is_refused():
  config = tiny.config(teacher__steps=0, teacher__epochs=10_000_000)
  assert build.steps(config.teacher, 48) == 30_000_000
  with pytest.raises(ValueError, match='epochs=10000000 of 48000000 examples are .* lower epochs'):
    build.steps(config.teacher, 48_000_000)
