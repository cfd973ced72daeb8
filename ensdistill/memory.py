"""How much memory there is, on the host and on a device, and what to do when it is used up."""

import os
import pathlib
import re

import jax

_CGROUPS = pathlib.Path('/sys/fs/cgroup')
# What XLA says when an allocation fails, on any back end.
_EXHAUSTED = re.compile(r'RESOURCE_EXHAUSTED|[Oo]ut of memory|std::bad_alloc|OUT_OF_MEMORY')
_AMOUNT = re.compile(
  r'(?:allocat\w*|for)\s+([\d.]+\s*(?:[KMGTPE]i?B|bytes?)(?:\s*\(\d+ bytes\))?)', re.IGNORECASE
)


def available() -> int | None:
  """Return the bytes that this process may still use on the host; None if the system hides them.

  The limits of control groups (containers, Slurm) count, too.
  """
  free = [_meminfo(), *map(_left_in_group, _groups())]
  known = [bytes_ for bytes_ in free if bytes_ is not None]
  return max(0, min(known)) if known else None


def of_device(device=None) -> int | None:
  """Return the bytes that are free on a device; a CPU's are those of the host."""
  device = device or jax.local_devices()[0]
  if device.platform == 'cpu':
    return available()
  stats = device.memory_stats() or {}
  limit = stats.get('bytes_limit')
  return None if limit is None else int(limit) - int(stats.get('bytes_in_use', 0))


def limit_of_device() -> int | None:
  """Return the bytes that a device has; None on a CPU, and where it does not say."""
  device = jax.local_devices()[0]
  limit = None if device.platform == 'cpu' else (device.memory_stats() or {}).get('bytes_limit')
  return None if limit is None else int(limit)


def text(size: float) -> str:
  """Return a number of bytes as text, such as '1.5 GB'."""
  for unit in ('bytes', 'kB', 'MB', 'GB', 'TB'):
    if size < 999.5 or unit == 'TB':
      return f'{size:,.0f} {unit}' if unit == 'bytes' or size >= 99.5 else f'{size:.2g} {unit}'
    size /= 1000
  raise AssertionError


def exhausted(error: BaseException) -> str | None:
  """Return one line for an error that says that memory is used up; None for any other error."""
  said = str(error)
  if isinstance(error, MemoryError):
    where = 'the host'
  elif isinstance(error, jax.errors.JaxRuntimeError) and _EXHAUSTED.search(said):
    where = 'the device'
  else:
    return None
  found = _AMOUNT.search(said)
  amount = f' ({found[1]} were asked for)' if found else ''
  return (
    f"the memory of {where} is used up{amount}: set teacher.together=1, teacher.strategy='loop', "
    "student.strategy='loop' or data.stream='on', with which the run continues from its last "
    'checkpoint; or lower batch_size, data.limit or the network in another --workdir'
  )


def _meminfo() -> int | None:
  try:
    lines = pathlib.Path('/proc/meminfo').read_text().splitlines()
    fields = dict(line.split(':', 1) for line in lines if ':' in line)
    return int(fields['MemAvailable'].split()[0]) * 1024
  except (OSError, KeyError, ValueError):
    pass
  try:  # all memory, where the system does not say what is free
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  except (AttributeError, OSError, ValueError):
    return None


def _groups() -> list[pathlib.Path]:
  """Return the folders of the control groups of this process, and of those above them."""
  try:
    lines = pathlib.Path('/proc/self/cgroup').read_text().splitlines()
  except OSError:
    return []
  found = []
  for line in lines:
    _, _, rest = line.partition(':')
    controllers, _, place = rest.partition(':')
    if controllers and 'memory' not in controllers.split(','):
      continue
    root = _CGROUPS / 'memory' if controllers else _CGROUPS
    group = root / place.lstrip('/')
    found += [root, *(g for g in (group, *group.parents) if root in g.parents)]
  return list(dict.fromkeys(found))


def _left_in_group(folder: pathlib.Path) -> int | None:
  """Return the bytes left in a control group of version 2 or 1; None if it has no limit."""
  for limit, used, cached in (
    ('memory.max', 'memory.current', 'inactive_file'),
    ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
  ):
    try:
      most, now = int((folder / limit).read_text()), int((folder / used).read_text())
      lines = (folder / 'memory.stat').read_text().splitlines()
      stats = dict(line.split() for line in lines if len(line.split()) == 2)
      return most - now + int(stats.get(cached, 0))
    except (OSError, ValueError):  # no such file, or 'max': no limit
      continue
  return None
