"""Hostile values of settings: refused by name in one line, or within the bounds."""

import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensdistill.commands import arguments
from ensdistill.config import bounds
from ensdistill.config import settings as config_settings

QUICK = settings(
  max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
NAMES = sorted(name for name, *_ in bounds.numbers(config_settings.default()))


def attempt(name: str, value) -> None:
  config = config_settings.default()
  try:
    config.update_from_flattened_dict({name: value})
  except (TypeError, ValueError, OverflowError):  # of another type
    return
  try:
    bounds.check(config)
  except ValueError as error:
    assert str(error).startswith(f'{name}=') and '\n' not in str(error)
    return
  for section in name.split('.'):
    config = config[section]
  entries = config if isinstance(config, tuple) else [config]
  assert all(bounds.of(name).allow(entry) for entry in bounds._entries(entries))


@QUICK
@given(st.sampled_from(NAMES), hostile.config_values())
def test_values(name, value):
  attempt(name, value)


@pytest.mark.slow
@settings(QUICK, max_examples=1000, derandomize=False)
@given(st.sampled_from(NAMES), hostile.config_values())
def test_a_thousand_values(name, value):
  attempt(name, value)


@settings(QUICK, max_examples=20)
@given(st.sampled_from(NAMES), hostile.NUMBERS)
def test_flags(name, text):
  try:
    config, _ = arguments.configuration(['kd_digits', f'--config.{name}={text}'])
    bounds.check(config)
  except ValueError as error:
    assert '\n' not in str(error).strip()
