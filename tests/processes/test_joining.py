"""Which processes form a group: flags, JAX's variable, clusters; and what groups are refused."""

import os
import socket

import pytest
from several import Service

from ensdistill import processes
from ensdistill.processes import clusters, joining
from ensdistill.processes import group as groups
from ensdistill.processes.group import Group, State
from ensdistill.processes.joining import Place

VARIABLES = (
  'SLURM_',
  'OMPI_',
  'PMIX_',
  'JAX_COORDINATOR',
  'KUBERNETES_',
  'TPU_',
  'JOB_COMPLETION',
  'ENSDISTILL_',
)
SLURM = {
  'SLURM_JOB_ID': '4100',
  'SLURM_STEP_NODELIST': 'node[007-010],big1',
  'SLURM_NTASKS': '4',
  'SLURM_PROCID': '3',
  'SLURM_LOCALID': '0',
}
OPEN_MPI = {
  'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911',
  'OMPI_COMM_WORLD_SIZE': '2',
  'OMPI_COMM_WORLD_RANK': '1',
  'OMPI_COMM_WORLD_LOCAL_RANK': '1',
}
# Open MPI 5, all processes on this host, or one on each of two.
OPEN_MPI_5 = {
  'OMPI_COMM_WORLD_SIZE': '2',
  'OMPI_COMM_WORLD_RANK': '1',
  'OMPI_COMM_WORLD_LOCAL_RANK': '1',
  'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
  'PMIX_NAMESPACE': 'prterun-host-4242@1',
}
HOSTS = {'OMPI_COMM_WORLD_LOCAL_SIZE': '1', 'OMPI_COMM_WORLD_LOCAL_RANK': '0'}


@pytest.fixture
def variables(monkeypatch):
  """Set the environment's variables of clusters; all others of theirs are unset."""

  def chosen(values):
    import os

    for name in list(os.environ):
      if name.startswith(VARIABLES):
        monkeypatch.delenv(name)
    for name, value in values.items():
      monkeypatch.setenv(name, value)

  chosen({})
  return chosen


@pytest.mark.parametrize(
  ('values', 'given', 'wanted'),
  [
    ({}, Place(), None),
    ({}, Place('h:1', 1, 0), None),
    ({}, Place('10.0.0.1:8476', 4, 3), Place('10.0.0.1:8476', 4, 3)),
    ({'JAX_COORDINATOR_ADDRESS': 'h:2'}, Place(None, 2, 1), Place('h:2', 2, 1)),
    (SLURM, Place(), Place('node007:61444', 4, 3)),
    (SLURM | {'JAX_COORDINATOR_PORT': '99'}, Place(), Place('node007:99', 4, 3)),
    (SLURM | {'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'}, Place(), None),
    (SLURM | {'ENSDISTILL_PROCESSES': '1'}, Place(), None),
    (SLURM, Place('10.0.0.1:8476', 2, 0), Place('10.0.0.1:8476', 2, 0)),
    ({k: v for k, v in SLURM.items() if k != 'SLURM_STEP_NODELIST'}, Place(), None),
    (OPEN_MPI, Place(), Place('10.96.0.1:62624', 2, 1)),
    (OPEN_MPI_5, Place(), Place('127.0.0.1:64932', 2, 1)),
    (OPEN_MPI_5 | {'JAX_COORDINATOR_PORT': '99'}, Place(), Place('127.0.0.1:99', 2, 1)),
    (OPEN_MPI_5 | HOSTS, Place('h:1'), Place('h:1', 2, 1)),
    (OPEN_MPI_5 | HOSTS | {'JAX_COORDINATOR_ADDRESS': 'h:2'}, Place(), Place('h:2', 2, 1)),
    ({'KUBERNETES_SERVICE_HOST': '10.0.0.1'}, Place(), None),
  ],
)
def test_a_process_finds_its_place(variables, values, given, wanted):
  variables(values)
  assert joining.find(given)[0] == wanted


@pytest.mark.parametrize('platforms', ['tpu,cpu', 'cpu'])
def test_the_hosts_of_a_slice_are_found_unless_it_is_not_used(variables, monkeypatch, platforms):
  """By the variables that GKE sets; JAX asks the metadata of a slice without them."""
  import jax
  from jax._src.clusters import cloud_tpu_cluster as tpu

  variables({'TPU_WORKER_HOSTNAMES': 'h0,h1', 'TPU_WORKER_ID': '1', 'TPU_SKIP_MDS_QUERY': '1'})
  monkeypatch.setattr(tpu, 'running_in_cloud_tpu_vm', True)
  monkeypatch.setattr(tpu, 'get_tpu_env_value', lambda name: None)  # from the network
  monkeypatch.setattr(tpu.BaseTpuCluster, 'wait_for_coordinator', lambda *address: None)
  before = jax.config.jax_platforms
  jax.config.update('jax_platforms', platforms)
  try:
    found = joining.find(Place())[0]
  finally:
    jax.config.update('jax_platforms', before)
  assert found == (None if platforms == 'cpu' else Place(f'h0:{tpu.coordinator_port}', 2, 1))


@pytest.mark.parametrize(
  ('values', 'given', 'said'),
  [
    ({}, Place('h:1'), '--num_processes and --process_id missing: several processes need'),
    ({}, Place(None, 2, 1), '--coordinator missing'),
    ({'JAX_COORDINATOR_ADDRESS': 'h:1'}, Place(), '(JAX_COORDINATOR_ADDRESS is set)'),
    ({}, Place('h:1', 2, 2), '--process_id=2 with --num_processes=2: processes are numbered from'),
    ({}, Place('h:1', 0, 0), '--num_processes is at least 1'),
    ({}, Place('h', 2, 0), '--coordinator=h must be HOST:PORT'),
    ({}, Place('h:99999', 2, 0), '--coordinator=h:99999 must be HOST:PORT'),
    (OPEN_MPI | {'OMPI_COMM_WORLD_SIZE': 'many'}, Place(), 'or ENSDISTILL_PROCESSES=1 for a run'),
    (OPEN_MPI_5 | HOSTS, Place(), 'Open MPI 5 does not name the host of process 0, and mpi4py'),
  ],
)
def test_half_a_place_is_refused_in_one_line(variables, values, given, said):
  variables(values)
  with pytest.raises(ValueError, match='.') as error:
    joining.find(given)
  assert said in str(error.value) and '\n' not in str(error.value)


def hello(host='a', devices=1, visible=1, jax='0.12.0', x64='False', platform='gpu'):
  versions, settings = {'jax': jax}, {'JAX_ENABLE_X64': x64}
  found = {'host': host, 'devices': devices, 'visible': visible, 'platform': platform}
  return {**found, 'versions': versions, 'settings': settings}


def test_hosts_with_gpus_that_no_process_uses_are_refused():
  joining.check_devices([hello(visible=2), hello(visible=2), hello('b', 2, 2)])
  joining.check_devices([hello(devices=8, visible=8)] * 2)
  with pytest.raises(ValueError, match='1 of the 4 GPUs of b are used') as error:
    joining.check_devices([hello('a', 4, 4), hello('b', 1, 4)])
  for remedy in ('--ntasks-per-node=4', 'JAX_LOCAL_DEVICE_IDS=0,1,2,3', 'CUDA_VISIBLE_DEVICES'):
    assert remedy in str(error.value)


def test_devices_of_several_kinds_are_refused():
  """A host whose driver is broken computes on its CPU."""
  with pytest.raises(ValueError, match='process 1 on b computes on a cpu, process 0 on a on a gpu'):
    joining.check_devices([hello(), hello('b', platform='cpu')])


def test_other_versions_are_refused():
  with pytest.raises(ValueError, match=r'process 1 on b has jax 0.10.2, process 0 on a has 0.12.0'):
    joining.check_same([hello(), hello('b', jax='0.10.2')])
  with pytest.raises(ValueError, match='process 2 on b has JAX_ENABLE_X64 True, process 0'):
    joining.check_same([hello(), hello('b'), hello('b', x64='True')])
  found = hello('b')
  found['versions'] = {}
  with pytest.raises(ValueError, match='has jax missing, process 0 on a has 0.12.0: install the'):
    joining.check_same([hello(), found])


def test_versions_hold_the_sources_of_the_package(monkeypatch):
  found = joining.versions()
  assert {'jax', 'flax', 'numpy'} <= found.keys() and len(found['ensdistill sources']) == 8
  read = joining.pathlib.Path.read_bytes
  monkeypatch.setattr(joining.pathlib.Path, 'read_bytes', lambda path: read(path) + b'#')
  assert joining.versions()['ensdistill sources'] != found['ensdistill sources']


def test_processes_that_were_started_otherwise_are_refused():
  """One that expects more processes would wait for ever; one with longer pauses would seem dead."""
  service = Service()

  def start(number, count=2, heartbeat=10.0):
    service.keys.pop(f'ensdistill/start/{number}', None)
    joining.check_start(Group(service, number, count, heartbeat))

  service.keys['ensdistill/start/1'] = '{"--num_processes": 2, "ENSDISTILL_HEARTBEAT": 10.0}'
  start(0)
  start(1)
  with pytest.raises(ValueError, match='process 0 was started with --num_processes=2, process 1'):
    start(1, 3)
  with pytest.raises(ValueError, match='process 1 was started with --num_processes=3, process 0'):
    start(0)
  with pytest.raises(ValueError, match='ENSDISTILL_HEARTBEAT=10, process 1 with ENSDISTILL_HEAR'):
    start(1, heartbeat=60.0)


def test_processes_share_the_cores_that_several_of_them_may_use(monkeypatch):
  group = Group(Service(), 0, 4, heartbeat=10.0)
  monkeypatch.setattr(State, 'group', group)
  monkeypatch.setattr(groups, 'usable_cores', lambda: [0, 1, 2, 3, 4])
  assert processes.cores() == 5  # nothing is known about the others yet
  group.hellos = [
    {'host': 'a', 'cores': [0, 1, 2, 3, 4]},
    {'host': 'a', 'cores': [0, 1, 2, 3, 4]},
    {'host': 'a', 'cores': [5, 6, 7]},  # bound to cores of its own
    {'host': 'b', 'cores': [0, 1, 2, 3, 4]},
  ]
  assert processes.cores() == 2
  group.number = 3
  assert processes.cores() == 5


def test_visible_gpus_are_counted():
  cases = {
    '2,3,5': ['2', '3', '5'], '': [], '-1': [], '0, -1,2': ['0'], ' 1, 2': ['1', '2'],
    'NoDevFiles': [], 'GPU-8932f937,MIG-1': ['GPU-8932f937', 'MIG-1'], '-2': [],
  }  # fmt: skip
  for text, found in cases.items():
    assert joining.visible_gpus({'CUDA_VISIBLE_DEVICES': text}) == found


def test_a_lone_process_joins_nothing(variables):
  import jax

  joining.join()
  assert not jax.distributed.is_initialized()


def test_processes_that_were_joined_before_are_refused(monkeypatch):
  from jax._src import distributed

  monkeypatch.setattr(distributed.global_state, 'client', object())
  monkeypatch.setattr(distributed.global_state, 'num_processes', 1)
  joining.join()
  monkeypatch.setattr(distributed.global_state, 'num_processes', 2)
  with pytest.raises(ValueError, match='jax.distributed is initialized, for 2 processes: leave'):
    joining.join()


def test_a_process_of_open_mpi_5_has_one_device_as_jax_gives_it_elsewhere(variables):
  variables(OPEN_MPI_5)
  assert joining._own_devices(clusters.OpenMPI5) == [1] and joining._own_devices(None) is None
  variables(OPEN_MPI_5 | {'JAX_LOCAL_DEVICE_IDS': '0,1'})
  assert joining._own_devices(clusters.OpenMPI5) is None


def test_the_process_that_did_not_come_is_told_as_far_as_it_is_known():
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    there = f'127.0.0.1:{server.getsockname()[1]}'
    assert joining._missing(Place(there, 3, 0)) == 'not all of them have started'
    assert joining._missing(Place(there, 3, 1)) == 'no process 0 listens there: Connection refused'
    server.listen()
    assert joining._missing(Place(there, 3, 1)).startswith('process 0 listens there, and another')


def test_a_process_that_waits_for_the_others_says_so(capsys):
  joining._say_waits(Place('h:1', 2, 1))
  line = 'process 1 of 2 waits for the others at h:1, for up to 300 seconds'
  assert capsys.readouterr().err == f'{line}\n'


@pytest.mark.parametrize(
  ('values', 'given', 'hidden'),
  [
    ({}, Place(), False),
    (SLURM, Place(), True),
    (SLURM | {'ENSDISTILL_PROCESSES': '1'}, Place(), False),
    ({'ENSDISTILL_PROCESSES': '1'}, Place('h:1', 2, 0), True),
  ],
)
def test_messages_of_xla_are_hidden_where_processes_share_a_run(
  variables, monkeypatch, values, given, hidden
):
  variables(values)
  monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', '')  # restored after the test
  monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL')
  joining.hush(given)
  assert ('TF_CPP_MIN_LOG_LEVEL' in os.environ) == hidden
