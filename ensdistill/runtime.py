"""Settings to apply before JAX starts its back end: compilation cache, XLA flags, allocator."""

import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import re
import subprocess
import threading
from collections.abc import Callable, Iterator

import jax
import jaxlib

ONEDNN = {'xla_cpu_experimental_onednn_custom_call': True}  # compiler options of one program


def prepare(cache: str | None = None, *, flags: bool = True, memory: bool = True) -> None:
  """Apply the settings; call this once, before the first computation.

  cache: the folder of the compilation cache; '' disables the cache. With None, JAX's own settings
    take precedence (see `cached`), then the variable ENSDISTILL_CACHE.
  flags: compile programs with `options`. Flags in the user's XLA_FLAGS take precedence.
  memory: on one CPU device, keep the memory that a step frees for the next step, and run steps in
    the main thread. The user's environment variables for glibc's allocator take precedence.
  """
  if flags:
    given = os.environ.get('XLA_FLAGS', '')
    new = [f'--{name}={value}' for name, value in options().items() if name not in given]
    os.environ['XLA_FLAGS'] = ' '.join(filter(None, [given, *new]))
  if memory:
    _keep_memory()
  if cache == '':
    jax.config.update('jax_enable_compilation_cache', False)  # JAX may have a folder of its own
  elif cache or not _user_has_chosen():
    for name, value in _cache_settings(cache).items():
      jax.config.update(name, value)


def _user_has_chosen() -> bool:
  """Return whether JAX's settings name a folder of the compilation cache, or disable the cache."""
  config = jax.config
  return bool(config.jax_compilation_cache_dir) or not config.jax_enable_compilation_cache


_scope = threading.RLock()


@contextlib.contextmanager
def cached() -> Iterator[None]:
  """Compile what is called inside with the compilation cache, then restore JAX's settings.

  This is for programs that use ensdistill as a library. JAX's own settings take precedence: a cache
  folder that is set already, or a cache that is switched off.
  """
  from jax.experimental.compilation_cache import compilation_cache

  with _scope:
    config = jax.config
    settings = {} if _user_has_chosen() else _cache_settings(None)
    before = {name: getattr(config, name) for name in settings}
    for name, value in settings.items():
      config.update(name, value)
    try:
      yield
    finally:
      for name, value in before.items():
        config.update(name, value)
      if settings:
        compilation_cache.reset_cache()  # JAX would go on using the folder that it has opened


def options() -> dict[str, str]:
  """Return XLA options for this version of JAX; XLA aborts on unknown options.

  jax 0.10 to 0.12 run convolutions with YNNPACK, which is slower than Eigen. oneDNN is faster than
  both, but the compilation cache cannot store programs that call it, so it is an option of single
  programs (`ONEDNN`).
  """
  known = (0, 10) <= jax.__version_info__[:2] <= (0, 12)
  return {'xla_cpu_experimental_ynn_fusion_type': ''} if known else {}


def lacks_onednn() -> str | None:
  """Return why programs cannot call oneDNN here, or None if they can."""
  if jax.__version_info__[:2] < (0, 12):
    return f'jax {jax.__version__} lacks it, jax 0.12 has it'
  if jax.default_backend() != 'cpu':
    return f'it is for CPUs, and this run uses a {jax.default_backend().upper()}'
  if platform.machine().lower() not in ('x86_64', 'amd64'):
    return f'it is for x86 processors, and this one is {platform.machine()}'
  return None


def uncached(function: Callable) -> Callable:
  """Return the function; programs that its calls compile are not written to the cache.

  XLA cannot serialize programs that call oneDNN: it fails with std::bad_alloc.
  """

  @functools.wraps(function)
  def call(*arguments):
    with _not_writing():
      return function(*arguments)

  return call


@contextlib.contextmanager
def _not_writing():
  """Write no program to the compilation cache; reading goes on."""
  name = 'jax_persistent_cache_min_compile_time_secs'
  before = getattr(jax.config, name)
  jax.config.update(name, float('inf'))
  try:
    yield
  finally:
    jax.config.update(name, before)


def _keep_memory() -> None:
  """Make glibc keep freed blocks of up to 2 GB instead of returning them to the system.

  A step's temporaries are one large block. By default glibc requests the block from the system in
  every step, and the system clears each page at first use: an eighth to a quarter of a step. glibc
  keeps blocks only of the main thread, so steps have to run there; with several devices they
  cannot. glibc before 2.35 rejects such high thresholds.
  """
  own = {'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES'} & set(os.environ)
  if own or not _one_cpu() or platform.libc_ver()[0] != 'glibc':
    return
  trim_threshold, mmap_threshold, largest = -1, -3, 2**31 - 1  # as malloc.h numbers them
  set_option = ctypes.CDLL(None).mallopt
  if set_option(mmap_threshold, largest):  # setting only the other one would be harmful
    set_option(trim_threshold, largest)
    jax.config.update('jax_cpu_enable_async_dispatch', False)


def _one_cpu() -> bool:
  """Return whether JAX will run on one CPU device, according to its settings.

  If they leave the platform open, the answer may be wrong on a GPU, where it has no effect.
  """
  flag = r'--xla_force_host_platform_device_count=(\d+)'
  forced = re.findall(flag, os.environ.get('XLA_FLAGS', ''))
  devices = jax.config.jax_num_cpu_devices
  if devices < 0:  # not set
    devices = int(forced[-1]) if forced else 1
  return devices == 1 and (jax.config.jax_platforms or 'cpu').split(',')[0] == 'cpu'


def default_cache() -> str:
  """Return the default folder of the compilation cache."""
  base = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
  return os.path.join(base, 'ensdistill', 'xla')


def _cache_settings(cache: str | None) -> dict:
  """Return JAX's settings for the compilation cache; {} without one.

  The cache has a folder per processor and versions: their binaries differ.
  """
  chosen = cache if cache is not None else os.environ.get('ENSDISTILL_CACHE', default_cache())
  if not chosen:
    return {}
  key = '|'.join((platform.machine(), _processor(), jax.__version__, jaxlib.__version__))
  folder = pathlib.Path(chosen) / hashlib.sha256(key.encode()).hexdigest()[:16]
  try:
    folder.mkdir(parents=True, exist_ok=True)
    writable = os.access(folder, os.W_OK)
  except OSError:
    writable = False
  if not writable:  # e.g. a read-only home folder: run without a cache
    return {}
  return {
    'jax_compilation_cache_dir': str(folder),
    'jax_persistent_cache_min_compile_time_secs': 0.01,  # reading a program takes about as long
    'jax_persistent_cache_min_entry_size_bytes': 0,
  }


def _cpuinfo() -> list[str]:
  try:
    return pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return []


def _processor() -> str:
  """Return the processor's model and instruction sets, if the system lists them."""
  wanted = ('model name', 'flags', 'Features', 'CPU part')
  found = '|'.join(sorted({line for line in _cpuinfo() if line.startswith(wanted)}))
  return found or platform.processor()


def processor() -> str:
  """Return the number of cores and the processor's name."""
  models = [line.split(':', 1)[1].strip() for line in _cpuinfo() if line.startswith('model name')]
  name = models[0] if models else platform.processor() or platform.machine()
  return f'{os.cpu_count()} x {name}'


def versions() -> dict[str, str]:
  """Return versions and devices, for reports."""
  import importlib.metadata as metadata

  packages = ('ensdistill', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  found = {}
  for package in packages:
    try:
      found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      continue
  devices = jax.devices()
  return {
    'python': platform.python_version(),
    **found,
    'devices': f'{len(devices)} x {devices[0].device_kind}',
    'processor': processor(),
    'platform': f'{platform.system()} {platform.machine()}',
  }


def software() -> dict:
  """Return versions and git commit of what computes, to be stored beside what it computed."""
  return {'versions': versions(), 'commit': commit()}


@functools.cache
def commit() -> str | None:
  """Return the git commit of the package's checkout, with '-dirty' if it was changed.

  None for an installed package, even if the environment lies in another checkout.
  """
  root = pathlib.Path(__file__).resolve().parent.parent
  if not (root / '.git').exists():
    return None
  describe = ('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')
  environment = os.environ | {'GIT_OPTIONAL_LOCKS': '0'}
  try:
    command = ('git', '-C', str(root), *describe)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10)
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip() or None
