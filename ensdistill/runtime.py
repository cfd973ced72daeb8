"""What has to be set before JAX starts its back end: compilation cache, flags, memory kept."""

import ctypes
import hashlib
import os
import pathlib
import platform
import re

import jax
import jaxlib


def prepare(cache: str | None = None, *, flags: bool = True, memory: bool = True) -> None:
  """Call once, before the first computation. `cache` = '' switches the compilation cache off.

  flags: programs are compiled with `options` unless the user's own XLA_FLAGS say otherwise.
  memory: what a step on one CPU device frees stays for the next, and steps run in the main thread,
  unless the user's own environment variables speak to glibc's allocator.
  """
  if flags:
    given = os.environ.get('XLA_FLAGS', '')
    new = [f'--{name}={value}' for name, value in options().items() if name not in given]
    os.environ['XLA_FLAGS'] = ' '.join(filter(None, [given, *new]))
  if memory:
    _keep_memory()
  folder = cache if cache is not None else os.environ.get('ENSDISTILL_CACHE', default_cache())
  if folder:
    _compilation_cache(pathlib.Path(folder))


def options() -> dict[str, str]:
  """XLA's options by version, for an unknown one aborts it.

  jax 0.10 to 0.12 hand convolutions to YNNPACK, which is slower at them than Eigen. oneDNN, which
  0.12 could call, is faster, but what calls it cannot be written to the compilation cache.
  """
  known = (0, 10) <= jax.__version_info__[:2] <= (0, 12)
  return {'xla_cpu_experimental_ynn_fusion_type': ''} if known else {}


def _keep_memory() -> None:
  """Has glibc keep blocks of up to 2 GB in place of giving each back to the system.

  A step's temporaries are one large block, which glibc takes from the system anew each time: the
  system then clears every page of it at its first touch, an eighth to a quarter of a step. It
  keeps blocks of the main thread alone, so steps run there, not in a thread of their own; with
  several devices they cannot. Before 2.35 it refuses thresholds as high as that.
  """
  own = {'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES'} & set(os.environ)
  if own or not _one_cpu() or platform.libc_ver()[0] != 'glibc':
    return
  trim_threshold, mmap_threshold, largest = -1, -3, 2**31 - 1  # as malloc.h numbers them
  set_option = ctypes.CDLL(None).mallopt
  if set_option(mmap_threshold, largest):  # the other alone would do harm
    set_option(trim_threshold, largest)
    jax.config.update('jax_cpu_enable_async_dispatch', False)


def _one_cpu() -> bool:
  """Whether JAX will run on one CPU device, as far as its settings tell.

  Where they leave the platform open it may be a GPU: there this does not matter.
  """
  flag = r'--xla_force_host_platform_device_count=(\d+)'
  forced = re.findall(flag, os.environ.get('XLA_FLAGS', ''))
  devices = jax.config.jax_num_cpu_devices
  if devices < 0:  # not set
    devices = int(forced[-1]) if forced else 1
  return devices == 1 and (jax.config.jax_platforms or 'cpu').split(',')[0] == 'cpu'


def default_cache() -> str:
  base = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
  return os.path.join(base, 'ensdistill', 'xla')


def _compilation_cache(folder: pathlib.Path) -> None:
  """A folder per machine type and versions: a binary for another processor is never loaded."""
  key = '|'.join((platform.machine(), _processor(), jax.__version__, jaxlib.__version__))
  folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
  try:
    folder.mkdir(parents=True, exist_ok=True)
    writable = os.access(folder, os.W_OK)
  except OSError:
    writable = False
  if not writable:  # a read-only home: run without a cache
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)


def _cpuinfo() -> list[str]:
  try:
    return pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return []


def _processor() -> str:
  """The processor's model and its instruction sets, where the system tells."""
  wanted = ('model name', 'flags', 'Features', 'CPU part')
  found = '|'.join(sorted({line for line in _cpuinfo() if line.startswith(wanted)}))
  return found or platform.processor()


def processor() -> str:
  """The processor as its maker calls it, and how many cores there are."""
  models = [line.split(':', 1)[1].strip() for line in _cpuinfo() if line.startswith('model name')]
  name = models[0] if models else platform.processor() or platform.machine()
  return f'{os.cpu_count()} x {name}'


def versions() -> dict[str, str]:
  """Versions and devices, for reports."""
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
