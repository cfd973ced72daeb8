"""Clusters that start processes, and what their variables say of this one."""

import hashlib
import os
from typing import Any


class OpenMPI5:
  """Processes that mpirun of Open MPI 5 started, in the form of JAX's clusters.

  JAX 0.12 asks for mpi4py there, and earlier versions do not find them. Its variables name no host:
  where all processes run on one, it is this one; else mpi4py, if it is installed, or a flag.
  """

  @staticmethod
  def is_env_present() -> bool:
    return 'OMPI_COMM_WORLD_SIZE' in os.environ and 'OMPI_MCA_orte_hnp_uri' not in os.environ

  @staticmethod
  def get_process_count() -> int:
    return int(os.environ['OMPI_COMM_WORLD_SIZE'])

  @staticmethod
  def get_process_id() -> int:
    return int(os.environ['OMPI_COMM_WORLD_RANK'])

  @staticmethod
  def get_local_process_id() -> int:
    return int(os.environ['OMPI_COMM_WORLD_LOCAL_RANK'])

  @staticmethod
  def get_coordinator_address(timeout_secs: int | None, override_coordinator_port: str | None):
    if os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') == os.environ['OMPI_COMM_WORLD_SIZE']:
      return f'127.0.0.1:{override_coordinator_port or _port(os.environ.get("PMIX_NAMESPACE", ""))}'
    from jax._src.clusters.mpi4py_cluster import Mpi4pyCluster

    if Mpi4pyCluster.is_env_present():
      return Mpi4pyCluster.get_coordinator_address(timeout_secs, override_coordinator_port)
    raise ValueError('Open MPI 5 does not name the host of process 0, and mpi4py is not installed')


def _port(job: str) -> int:
  """Return a port for a job of this machine: above those of Linux for outgoing connections."""
  return 61000 + int.from_bytes(hashlib.sha256(job.encode()).digest()[:4]) % 4500


def found() -> Any:
  """Return the cluster that this process was started in, as JAX knows it; None outside one."""
  import jax
  from jax._src import clusters

  if OpenMPI5.is_env_present():
    return OpenMPI5
  wanted = jax.config.jax_platforms or ''
  for kind in clusters.ClusterEnv._cluster_types:
    if kind.opt_in_only_method:
      continue
    if 'tpu' in kind.name and wanted and 'tpu' not in wanted.split(','):
      continue
    if kind.__name__ == 'K8sCluster' and 'JOB_COMPLETION_INDEX' not in os.environ:
      continue  # a pod by itself: JAX would ask the API server, or warn that it cannot
    if kind.is_env_present():
      return kind
  return None
