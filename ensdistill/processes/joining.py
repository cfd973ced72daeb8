"""Form the group of processes that share a run, found by flags or by the variables of a cluster."""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from ensdistill import messages, processes
from ensdistill.processes import clusters, watching
from ensdistill.processes.group import Group, State

LONE = 'ENSDISTILL_PROCESSES'  # =1: this process joins no other, whatever the cluster says
_HEARTBEAT = 'ENSDISTILL_HEARTBEAT'
_COORDINATOR = 'JAX_COORDINATOR_ADDRESS'
_PORT = 'JAX_COORDINATOR_PORT'
_GPUS = pathlib.Path('/proc/driver/nvidia/gpus')
_PATIENCE = 300  # seconds for all processes to start
_LOST = 6  # heartbeats after which XLA takes a host for lost; it counts its own pauses, too
_PATIENT = 15  # seconds before a process says that it waits for them
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'pillow')
_NUMERIC = (  # settings of JAX that change what a program computes
  'jax_enable_x64',
  'jax_default_matmul_precision',
  'jax_default_prng_impl',
  'jax_threefry_partitionable',
)


# Variables that show a cluster.
_SIGNS = (
  _COORDINATOR,
  'SLURM_STEP_NODELIST',
  'OMPI_COMM_WORLD_SIZE',
  'TPU_WORKER_HOSTNAMES',
  'JOB_COMPLETION_INDEX',
)


class Place(NamedTuple):
  """The place of this process in a group; None is left to the cluster."""

  coordinator: str | None = None  # HOST:PORT of the first process
  size: int | None = None
  number: int | None = None


UNKNOWN = Place()


def hush(given: Place) -> None:
  """Hide what XLA logs about processes that die; call it before JAX is imported.

  The command itself says in one line which process died. Nothing is hidden in a lone process.
  """
  shared = given != UNKNOWN or any(name in os.environ for name in _SIGNS)
  if shared and not _is_lone(given):
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def _is_lone(given: Place) -> bool:
  """Return whether the environment says that this process joins no other."""
  return os.environ.get(LONE) == '1' and given == UNKNOWN


def join(given: Place = UNKNOWN) -> None:
  """Join the other processes of this run, if there are any; raise ValueError where that fails.

  Call it before the first computation.
  """
  if processes.shared():
    return
  _refuse_joined()
  place, cluster = find(given)
  if place is None:
    return
  import jax

  jax.config.update('jax_enable_preemption_service', False)  # signals are those of `stopping`
  heartbeat = _heartbeat()
  if place.number == 0:
    _check_port(place.coordinator)
  State.joining = True
  waits = threading.Timer(_PATIENT, _say_waits, (place,))
  waits.daemon = True
  waits.start()
  try:
    with watching.quiet_deaths():
      jax.distributed.initialize(
        place.coordinator,
        place.size,
        place.number,
        local_device_ids=_own_devices(cluster),
        cluster_detection_method=None if cluster else 'deactivate',
        initialization_timeout=_PATIENCE,
        heartbeat_timeout_seconds=int(_LOST * heartbeat),
        shutdown_timeout_seconds=60,
      )
  except Exception as error:
    _forget_client()
    unread = 'bad_cast' in str(error)  # see watching.quiet_deaths
    cause = _missing(place) if unread else messages.one_line(error)
    raise ValueError(
      f'process {place.number} of {place.size} cannot join the others at {place.coordinator} '
      f'({cause}): start all of them, within {_PATIENCE} seconds, with a HOST:PORT of process 0 '
      'that every host reaches'
    ) from error
  finally:
    waits.cancel()
    State.joining = False
  _meet(place, heartbeat)


def _missing(place: Place) -> str:
  """Return which process did not come, as far as this one can tell."""
  if place.number == 0:
    return 'not all of them have started'
  host, _, port = str(place.coordinator).rpartition(':')
  try:
    socket.create_connection((host.strip('[]'), int(port)), timeout=5).close()
  except OSError as error:
    return f'no process 0 listens there: {error.strerror or error}'
  return 'process 0 listens there, and another one has not started, or two have one --process_id'


def _say_waits(place: Place) -> None:
  print(
    f'process {place.number} of {place.size} waits for the others at {place.coordinator}, for up '
    f'to {_PATIENCE} seconds',
    file=sys.stderr,
    flush=True,
  )


def _refuse_joined() -> None:
  """Refuse processes that a program of the user's joined: the run would not know of the others."""
  from jax._src import distributed

  state = distributed.global_state
  if state.client is not None and (state.num_processes or 1) > 1:
    raise ValueError(
      f'jax.distributed is initialized, for {state.num_processes} processes: leave this to the '
      'run. Give --coordinator, --num_processes and --process_id, or '
      'run.prepare(config, place=joining.Place(HOST_AND_PORT, N, I))'
    )


def _heartbeat() -> float:
  """Return the seconds of silence after which a process is dead."""
  text = os.environ.get(_HEARTBEAT, '10')
  try:
    seconds = float(text)
  except ValueError:
    seconds = 0.0
  if not 1 <= seconds <= 3600:
    raise ValueError(f'{_HEARTBEAT}={text} must be a number of seconds from 1 to 3600')
  return seconds


def _own_devices(cluster: Any) -> list[int] | None:
  """Return the device that a cluster gives this process, which JAX knows of the other clusters."""
  alone = cluster is clusters.OpenMPI5 and not os.environ.get('JAX_LOCAL_DEVICE_IDS')
  return [cluster.get_local_process_id()] if alone else None


def _check_port(coordinator: str | None) -> None:
  """Refuse a port that another process listens on, at which XLA crashes."""
  port = int(str(coordinator).rpartition(':')[2])
  with socket.socket() as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      server.bind(('', port))
    except OSError as error:
      raise ValueError(
        f'--coordinator={coordinator}: process 0 cannot listen on port {port} of this host '
        f'({error.strerror}): choose another port, on a cluster with {_PORT}'
      ) from None


def _forget_client() -> None:
  """Drop a client that did not connect, which would complain at the end of the process."""
  from jax._src import distributed

  distributed.global_state.client = distributed.global_state.service = None


def _meet(place: Place, heartbeat: float) -> None:
  """Exchange what the processes are, and refuse groups that cannot work."""
  import jax
  from jax._src import distributed

  assert place.size is not None and place.number is not None
  group = Group(distributed.global_state.client, place.number, place.size, heartbeat)
  State.group = group
  watching.watch(group)
  check_start(group)
  cores = processes.usable_cores()
  hello = {'host': socket.gethostname(), 'pid': os.getpid(), 'cores': cores}
  hello |= {'versions': versions(), 'settings': _settings()}
  group.hellos = processes.each(hello, 'hello')
  check_same(group.hellos)
  devices = jax.local_devices()  # waits for the devices of all
  platform = devices[0].platform
  visible = len(visible_gpus()) if platform == 'gpu' else len(devices)
  hello = {'platform': platform, 'devices': len(devices), 'visible': visible}
  group.hellos = [a | b for a, b in zip(group.hellos, processes.each(hello, 'devices'))]
  check_devices(group.hellos)


def check_start(group: Group) -> None:
  """Refuse processes that were started otherwise than the first.

  One that expects more processes than there are would wait for them, and one with longer pauses
  between its signs of life would seem to be dead.
  """
  own = {'--num_processes': group.count, _HEARTBEAT: group.heartbeat}
  group.set(f'start/{group.number}', json.dumps(own))
  for number in range(1, group.count) if group.number == 0 else (0,):
    for name, value in json.loads(group.wait(f'start/{number}')).items():
      if value != own[name]:
        raise ValueError(
          f'process {number} was started with {name}={value:g}, process {group.number} with '
          f'{name}={own[name]:g}: give all the same'
        )


def _settings() -> dict[str, str]:
  """Return the settings of JAX that must be the same in all processes."""
  import jax

  return {name.upper(): str(getattr(jax.config, name)) for name in _NUMERIC}


def versions() -> dict[str, str]:
  """Return the versions of what computes, and a digest of the sources of this package."""
  from importlib import metadata  # a lone process does not need it

  root, digest = pathlib.Path(__file__).parent.parent, hashlib.sha256()
  for path in sorted(root.rglob('*.py')):
    digest.update(f'{path.relative_to(root)}\0'.encode() + path.read_bytes())
  found = {'ensdistill sources': digest.hexdigest()[:8]}
  for name in _PACKAGES:
    with contextlib.suppress(metadata.PackageNotFoundError):
      found[name] = metadata.version(name)
  return found


def check_same(hellos: list[dict]) -> None:
  """Refuse processes that compute otherwise than the first."""
  remedies = {
    'versions': 'install the same on all hosts',
    'settings': 'set the same variables on all hosts',
  }
  first = hellos[0]
  for number, hello in enumerate(hellos):
    for kind, remedy in remedies.items():
      for name in sorted(first[kind].keys() | hello[kind].keys()):
        ours, theirs = first[kind].get(name, 'missing'), hello[kind].get(name, 'missing')
        if ours != theirs:
          raise ValueError(
            f'process {number} on {hello["host"]} has {name} {theirs}, process 0 on '
            f'{first["host"]} has {ours}: {remedy}'
          )


def check_devices(hellos: list[dict]) -> None:
  """Refuse devices of several kinds, and hosts with devices that no process uses."""
  first = hellos[0]
  for number, hello in enumerate(hellos):
    if hello['platform'] != first['platform']:
      raise ValueError(
        f'process {number} on {hello["host"]} computes on a {hello["platform"]}, process 0 on '
        f'{first["host"]} on a {first["platform"]}: see what JAX finds on both, with '
        'python -c "import jax; print(jax.devices())"'
      )
  for host in dict.fromkeys(hello['host'] for hello in hellos):
    there = [hello for hello in hellos if hello['host'] == host]
    used, visible = sum(h['devices'] for h in there), max(h['visible'] for h in there)
    if used < visible:
      numbers = ','.join(map(str, range(visible)))
      raise ValueError(
        f'{used} of the {visible} GPUs of {host} are used, because Slurm and Open MPI give each '
        f'process one: start {visible} on a host (srun --ntasks-per-node={visible}), set '
        f'JAX_LOCAL_DEVICE_IDS={numbers} for one that uses all, or hide the rest with '
        'CUDA_VISIBLE_DEVICES'
      )


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
  """Return the numbers of the NVIDIA GPUs that processes on this host may use."""
  if 'CUDA_VISIBLE_DEVICES' in environment:
    # CUDA ignores all that follows an invalid name.
    given = [name.strip() for name in environment['CUDA_VISIBLE_DEVICES'].split(',')]
    return list(itertools.takewhile(_is_gpu, given))
  return [str(number) for number, _ in enumerate(_GPUS.iterdir())] if _GPUS.is_dir() else []


def _is_gpu(name: str) -> bool:
  return name.isdecimal() or name.startswith(('GPU-', 'MIG-'))


def find(given: Place) -> tuple[Place | None, Any]:
  """Return the place of this process, and the cluster that tells it; (None, None) if it is alone.

  Flags come first, then JAX's variable, then what JAX knows of clusters: TPU slices, Slurm, Open
  MPI, Kubernetes.
  """
  if _is_lone(given):
    return None, None
  coordinator = given.coordinator or os.environ.get(_COORDINATOR)
  count, number, cluster = given.size, given.number, None
  if count is None or number is None or coordinator is None:
    try:
      cluster = clusters.found()
      if cluster:
        count = cluster.get_process_count() if count is None else count
        number = cluster.get_process_id() if number is None else number
      if cluster and coordinator is None and count != 1:
        port = os.environ.get(_PORT)
        coordinator = cluster.get_coordinator_address(_PATIENCE, port)
    except Exception as error:
      raise ValueError(
        f'cannot find the other processes of this run ({messages.one_line(error)}): set '
        f'--coordinator, --num_processes and --process_id, or {LONE}=1 for a run of this process'
      ) from error
  if (coordinator, count, number) == (None, None, None) or count == 1:
    return None, None
  _check_place(coordinator, count, number, given)
  return Place(coordinator, count, number), cluster


def _check_place(coordinator, count, number, given: Place) -> None:
  flags = {'--coordinator': coordinator, '--num_processes': count, '--process_id': number}
  missing = [flag for flag, value in flags.items() if value is None]
  if missing:
    source = '' if given.coordinator or not coordinator else f' ({_COORDINATOR} is set)'
    raise ValueError(
      f'{" and ".join(missing)} missing{source}: several processes need --coordinator=HOST:PORT, '
      f'--num_processes=N and --process_id=I; a single one needs none of them, or {LONE}=1'
    )
  if count < 1 or not 0 <= number < count:
    raise ValueError(
      f'--process_id={number} with --num_processes={count}: processes are numbered from 0 to '
      f'{max(count - 1, 0)}, and --num_processes is at least 1'
    )
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit() or not 0 < int(port) < 65536:
    raise ValueError(
      f'--coordinator={coordinator} must be HOST:PORT, the address of process 0 and a free port, '
      'such as 10.0.0.1:8476'
    )
