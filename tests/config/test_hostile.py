"""Hostile values of settings: refused by name in one line, or within the bounds."""

import attempts
import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensdistill.commands import arguments
from ensdistill.config import bounds

QUICK = settings(
  max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
NAMES = attempts.setting_names()


@QUICK
@given(st.sampled_from(NAMES), hostile.config_values())
def test_values(name, value):
  attempts.setting(name, value)


@pytest.mark.slow
@settings(QUICK, max_examples=1000, derandomize=False)
@given(st.sampled_from(NAMES), hostile.config_values())
def test_a_thousand_values(name, value):
  attempts.setting(name, value)


@settings(QUICK, max_examples=20)
@given(st.sampled_from(NAMES), hostile.NUMBERS)
def test_flags(name, text):
  try:
    config, _ = arguments.configuration(['kd_digits', f'--config.{name}={text}'])
    bounds.check(config)
  except ValueError as error:
    assert '\n' not in str(error).strip()
