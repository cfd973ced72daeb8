"""Where runs go that a sweep has going at once: an accelerator each, or a share of the cores."""

import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from ensdistill import processes
from ensdistill.processes import joining

_DEVICES = pathlib.Path('/dev')
# What tells the TPU's library that a process has one chip of this host, and no other host.
_ONE_CHIP = {
  'TPU_PROCESS_BOUNDS': '1,1,1',
  'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
}


class Slot(NamedTuple):
  """A place for one run at a time."""

  name: str
  environment: dict[str, str]
  cores: frozenset[int] | None = None  # None: all


def make(parallel: int | None, environment: Mapping[str, str] = os.environ) -> list[Slot]:
  """Return the places of `parallel` runs; by default one on each GPU, or one in all.

  Several runs on a TPU host have a chip each; several on a CPU have different cores. A single run
  has all devices, as in `ensdistill train`.
  """
  gpus = _gpus(environment)
  count = parallel or max(1, len(gpus))
  if count == 1:
    return [Slot('', {})]
  chips = _tpu_chips(environment)
  if not gpus and count <= chips:
    return [Slot(f'TPU chip {i}', {'TPU_VISIBLE_CHIPS': str(i), **_ONE_CHIP}) for i in range(count)]
  if not gpus:
    groups = _shares(processes.usable_cores(), count)
    return [Slot(f'cores {",".join(map(str, sorted(g)))}', {}, g) for g in groups]
  shared = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} if count > len(gpus) else {}
  chosen = [gpus[i % len(gpus)] for i in range(count)]
  return [Slot(f'GPU {gpu}', {'CUDA_VISIBLE_DEVICES': gpu, **shared}) for gpu in chosen]


def _gpus(environment: Mapping[str, str]) -> list[str]:
  """Return the numbers of the NVIDIA GPUs that runs may use."""
  platforms = environment.get('JAX_PLATFORMS', '')
  if platforms and not {'cuda', 'gpu'} & set(platforms.split(',')):
    return []
  return joining.visible_gpus(environment)


def _tpu_chips(environment: Mapping[str, str]) -> int:
  """Return the number of TPU chips of this host that runs may use."""
  platforms = environment.get('JAX_PLATFORMS', '')
  if platforms and 'tpu' not in platforms.split(','):
    return 0
  chips = len(list(_DEVICES.glob('accel[0-9]*')))
  return chips or len(list(_DEVICES.glob('vfio/[0-9]*')))


def _shares(cores: list[int], count: int) -> list[frozenset[int]]:
  """Return `count` groups of cores; groups share cores where there are too few."""
  if count >= len(cores):
    return [frozenset([cores[i % len(cores)]]) for i in range(count)]
  return [frozenset(cores[i::count]) for i in range(count)]
