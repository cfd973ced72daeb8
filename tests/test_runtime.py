"""Settings that are applied before JAX starts."""

import functools
import os
import platform
import subprocess
import sys
import types

import jax
import pytest

from ensdistill import runtime

GLIBC = (0,)
if platform.libc_ver()[0] == 'glibc':
  GLIBC = tuple(map(int, platform.libc_ver()[1].split('.')[:2]))

FAULTS = """
import resource
from ensdistill import runtime
runtime.prepare('')
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: 2 * jnp.roll(y, 1) + x, x).sum())
x, faults = jnp.ones(2**24), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
  before = faults()
  step(x).block_until_ready()
print(faults() - before)
"""


@pytest.mark.skipif(GLIBC < (2, 35), reason='glibc accepts such thresholds since 2.35')
def test_memory_of_a_step_stays_for_the_next():
  """Count page faults of the last step; the user's settings for glibc take precedence."""

  def faults(**settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('MALLOC_', 'GLIBC_'))}
    command = [sys.executable, '-c', FAULTS]
    done = subprocess.run(
      command, env=environment | settings, capture_output=True, text=True, check=True
    )
    return int(done.stdout)

  assert faults() < 1000
  assert faults(GLIBC_TUNABLES='glibc.malloc.tcache_count=7') > 10_000


class Allocator:
  """A stand-in for glibc that accepts or rejects options."""

  def __init__(self, answer):
    self.answer, self.asked = answer, []

  def mallopt(self, parameter, value):
    self.asked.append(parameter)
    return self.answer


@pytest.mark.parametrize('answer, asked', [(1, [-3, -1]), (0, [-3])])
def test_an_allocator_that_refuses_is_left_alone(monkeypatch, answer, asked):
  allocator, set_to = Allocator(answer), {}
  for name in ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES', 'XLA_FLAGS'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(runtime.platform, 'libc_ver', lambda: ('glibc', '2.31'))
  monkeypatch.setattr(runtime.ctypes, 'CDLL', lambda _: allocator)
  monkeypatch.setattr(runtime.jax.config, 'update', set_to.__setitem__)
  runtime._keep_memory()
  assert allocator.asked == asked
  assert set_to == ({'jax_cpu_enable_async_dispatch': False} if answer else {})
  allocator.asked.clear()
  with monkeypatch.context() as context:
    context.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=2')
    runtime._keep_memory()
  monkeypatch.setattr(runtime.platform, 'libc_ver', lambda: ('musl', '1'))
  runtime._keep_memory()
  assert allocator.asked == []


@pytest.mark.parametrize(
  'settings, alone',
  [
    ({}, True),
    ({'count': '=1 --xla_cpu_enable_fast_math=false'}, True),
    ({'count': '=2'}, False),
    ({'count': '=1', 'jax_num_cpu_devices': 2}, False),
    ({'count': '=2', 'jax_num_cpu_devices': 1}, True),
    ({'jax_platforms': 'cpu'}, True),
    ({'jax_platforms': 'cuda,cpu'}, False),
  ],
)
def test_devices_are_counted_before_there_are_any(monkeypatch, settings, alone):
  count = settings.pop('count', '')
  monkeypatch.setenv('XLA_FLAGS', count and '--xla_force_host_platform_device_count' + count)
  known = {'jax_num_cpu_devices': -1, 'jax_platforms': None} | settings
  monkeypatch.setattr(runtime.jax, 'config', types.SimpleNamespace(**known))
  assert runtime._one_cpu() == alone


@pytest.mark.parametrize('version', [(0, 9, 1), (0, 10, 2), (0, 12, 0), (0, 13, 0)])
def test_options_are_those_of_known_versions(monkeypatch, version):
  monkeypatch.setattr(runtime.jax, '__version_info__', version)
  assert len(runtime.options()) == ((0, 10) <= version[:2] <= (0, 12))


def test_options_are_options_and_the_users_flags_win(monkeypatch):
  assert jax.jit(lambda x: x + 1).lower(1.0).compile(compiler_options=runtime.options())(1.0) == 2
  monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_experimental_ynn_fusion_type=all')
  monkeypatch.setattr(runtime.jax, '__version_info__', (0, 10, 2))
  monkeypatch.setattr(runtime.jax.config, 'update', {}.__setitem__)
  runtime.prepare('', memory=False)
  assert os.environ['XLA_FLAGS'] == '--xla_cpu_experimental_ynn_fusion_type=all'


@pytest.mark.parametrize(
  'own, enabled, variable, cache, expected',
  [
    (None, True, 'ours', None, ('ours', True, 0.01)),
    (None, True, 'ours', 'given', ('given', True, 0.01)),
    (None, True, 'ours', '', (None, False, 1.0)),
    (None, True, '', None, (None, True, 1.0)),
    ('own', True, 'ours', None, ('own', True, 1.0)),
    ('own', True, '', None, ('own', True, 1.0)),
    ('own', True, 'ours', 'given', ('given', True, 0.01)),
    ('own', True, 'ours', '', ('own', False, 1.0)),
    (None, False, 'ours', None, (None, False, 1.0)),
  ],
)
def test_the_cache_that_the_user_chose_for_jax_is_kept(
  tmp_path, monkeypatch, own, enabled, variable, cache, expected
):
  config = types.SimpleNamespace(
    jax_compilation_cache_dir=own,
    jax_enable_compilation_cache=enabled,
    jax_persistent_cache_min_compile_time_secs=1.0,
  )
  config.update = functools.partial(setattr, config)
  monkeypatch.setattr(runtime.jax, 'config', config)
  monkeypatch.setenv('ENSDISTILL_CACHE', variable)
  monkeypatch.chdir(tmp_path)
  runtime.prepare(cache, flags=False, memory=False)
  folder = config.jax_compilation_cache_dir
  assert (folder and folder.split('/')[0]) == expected[0]
  found = config.jax_enable_compilation_cache, config.jax_persistent_cache_min_compile_time_secs
  assert found == expected[1:]


def test_the_commit_is_that_of_the_packages_own_checkout(tmp_path, monkeypatch):
  package = tmp_path / 'package'
  package.mkdir()
  (package / 'runtime.py').write_text('1')
  monkeypatch.setattr(runtime, '__file__', str(package / 'runtime.py'))

  def git(*arguments):
    names = ('-c', 'user.name=a', '-c', 'user.email=a@b', '-c', 'commit.gpgsign=false')
    command = ['git', '-C', str(tmp_path), *names, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

  commit = runtime.commit.__wrapped__
  assert commit() is None
  git('init')
  git('add', '.')
  git('commit', '-m', 'first')
  assert commit() == git('rev-parse', 'HEAD')
  (package / 'runtime.py').write_text('2')
  assert commit() == git('rev-parse', 'HEAD') + '-dirty'
  monkeypatch.setenv('PATH', '')
  assert commit() is None
