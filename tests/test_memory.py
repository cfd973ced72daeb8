"""Memory: what is free, and one line for what is used up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensdistill import memory
from ensdistill.commands.usage import memory_in_one_line


@pytest.mark.parametrize(
  'size, text',
  [(12, '12 bytes'), (1500, '1.5 kB'), (3.2e9, '3.2 GB'), (2.5e11, '250 GB'), (4e15, '4,000 TB')],
)
def test_sizes_as_text(size, text):
  assert memory.text(size) == text


def test_the_hosts_free_memory_is_between_nothing_and_everything():
  free = memory.available()
  assert free is None or 0 < free < 2**50
  assert memory.of_device() is None or 0 < memory.of_device() < 2**50


@pytest.mark.parametrize(
  'files, left',
  [
    (
      {'memory.max': '1000', 'memory.current': '400', 'memory.stat': 'anon 5\ninactive_file 90'},
      690,
    ),
    ({'memory.max': 'max', 'memory.current': '400', 'memory.stat': ''}, None),
    (
      {
        'memory.limit_in_bytes': '1000',
        'memory.usage_in_bytes': '400',
        'memory.stat': 'total_inactive_file 50',
      },
      650,
    ),
    ({}, None),
  ],
)
def test_the_limits_of_control_groups_count(tmp_path, monkeypatch, files, left):
  for name, text in files.items():
    (tmp_path / name).write_text(text)
  assert memory._left_in_group(tmp_path) == left
  monkeypatch.setattr(memory, '_groups', lambda: [tmp_path])
  free = memory.available()
  assert free == left if left is not None else free is None or free > 1000


def test_no_memory_on_the_host_is_one_line(capsys):
  with pytest.raises(SystemExit) as ended, memory_in_one_line():
    np.empty(2**60, np.uint8)
  error = capsys.readouterr().err
  assert ended.value.code == 1 and error.count('\n') == 1
  assert error.startswith('ensdistill: the memory of the host is used up (')
  assert 'teacher.together=1' in error


def test_no_memory_on_the_device_is_one_line():
  with pytest.raises(jax.errors.JaxRuntimeError) as error:
    jnp.zeros(2**56, jnp.uint8).block_until_ready()
  line = memory.exhausted(error.value)
  assert line and line.startswith('the memory of the device is used up') and '\n' not in line


def test_other_errors_pass():
  assert memory.exhausted(ValueError('Out of memory')) is None
  assert memory.exhausted(RuntimeError('RESOURCE_EXHAUSTED')) is None
  with pytest.raises(RuntimeError, match='another'), memory_in_one_line():
    raise RuntimeError('another')
