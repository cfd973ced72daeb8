"""Which processes form a group: flags, JAX's variable, clusters; and what groups are refused."""

import pytest

from ensdistill import joining
from ensdistill.joining import Place

VARIABLES = ('SLURM_', 'OMPI_', 'JAX_COORDINATOR', 'KUBERNETES_', 'JOB_COMPLETION', 'ENSDISTILL_')
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
    ({'KUBERNETES_SERVICE_HOST': '10.0.0.1'}, Place(), None),
  ],
)
def test_a_process_finds_its_place(variables, values, given, wanted):
  variables(values)
  assert joining.find(given)[0] == wanted


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
  ],
)
def test_half_a_place_is_refused_in_one_line(variables, values, given, said):
  variables(values)
  with pytest.raises(ValueError, match='.') as error:
    joining.find(given)
  assert said in str(error.value) and '\n' not in str(error.value)


def hello(host='a', devices=1, visible=1, jax='0.12.0'):
  return {'host': host, 'devices': devices, 'visible': visible, 'versions': {'jax': jax}}


def test_hosts_with_gpus_that_no_process_uses_are_refused():
  joining.check([hello(visible=2), hello(visible=2), hello('b', 2, 2)])
  joining.check([hello(devices=8, visible=8)] * 2)
  with pytest.raises(ValueError, match='1 of the 4 GPUs of b are used') as error:
    joining.check([hello('a', 4, 4), hello('b', 1, 4)])
  for remedy in ('--ntasks-per-node=4', 'JAX_LOCAL_DEVICE_IDS=0,1,2,3', 'CUDA_VISIBLE_DEVICES'):
    assert remedy in str(error.value)


def test_other_versions_are_refused():
  with pytest.raises(ValueError, match=r'process 1 on b has jax 0.10.2, process 0 on a has 0.12.0'):
    joining.check([hello(), hello('b', jax='0.10.2')])


def test_visible_gpus_are_counted():
  assert joining.visible_gpus({'CUDA_VISIBLE_DEVICES': '2,3,5'}) == 3
  assert joining.visible_gpus({'CUDA_VISIBLE_DEVICES': ''}) == 0


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
