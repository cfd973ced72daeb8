"""Plain networks between the members of a batch ensemble and their average (Nam et al., 2022).

A point of the subspace is sum_m w_m (r_m, s_m, b_m) with weights that sum to one. Its network has
the shared kernels times these factors, and the shared batch-norm statistics.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from ensdistill import mesh, processes, stopping, students
from ensdistill.evaluation import inference

EXAMPLES = 500  # most test examples that score a point
POINTS = 21  # of a line, from t = -0.5 to 1.5; the compiled program scores this many points
LINES = 6  # most members that have a line
SIDES = 21, 9  # points of the plane along each axis; the second where the first takes too long
SECONDS = 10.0


class Slice(NamedTuple):
  """A plane through three points of the space of factors, around the average of the members."""

  across: np.ndarray  # coordinates of its points [S]
  up: np.ndarray  # [S]
  nll: np.ndarray  # [S, S], one row for each value of `up`
  members: np.ndarray  # coordinates of the first three members, or of both of two [C, 2]


class Subspace(NamedTuple):
  """Scores of networks on the lines from the average through each member, and in a plane."""

  t: np.ndarray  # 0: the average, 1: the member [POINTS]
  lines: dict[str, np.ndarray]  # {score: [members, POINTS]}
  plane: Slice | None  # None where the points lie on one line


def measured(plan, method, variables) -> Subspace | None:
  """Return the scores of points between the members of a student; None where it has no average."""
  student = method.student
  if student.plain is None or student.size < 2:
    return None
  if student.size == 2:
    variables = _with_third(student, variables, plan.config.seed)
  flat_MF = _factors(student, variables)
  scored = _scorer(plan, method, variables)
  t = np.linspace(-0.5, 1.5, POINTS)
  lines = []
  for member in range(min(student.size, LINES)):
    began = time.monotonic()
    lines.append(scored(line(t, member, student.size, len(flat_MF))))
    took = time.monotonic() - began  # the first line compiles the program
  fast = processes.agreed(lambda: took * SIDES[0] ** 2 / POINTS <= SECONDS, 'plane')
  side = SIDES[0] if fast else SIDES[1]
  return Subspace(
    t,
    {name: np.stack([found[name] for found in lines]) for name in lines[0]},
    _plane(flat_MF, student.size, side, scored),
  )


def line(t, member: int, size: int, width: int) -> np.ndarray:
  """Return the weights [T, width] of average + t (member - average), of `size` members."""
  average, end = np.zeros(width), np.zeros(width)
  average[:size], end[member] = 1 / size, 1
  return average + np.asarray(t)[:, None] * (end - average)


def _scorer(plan, method, variables) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
  """Return the function from weights [N, M] to {score: [N]}; all calls share one program."""
  dataset, section = plan.dataset, plan.config.evaluate
  x, y = dataset.test
  rows = np.linspace(0, len(x) - 1, min(len(x), EXAMPLES)).astype(int)
  batch = min(section.batch_size, len(rows))
  device_mesh = mesh.make(1, mesh.rounded(batch))
  score = inference.scores(
    dataclasses.replace(method, student=method.student.plain, view='student'),
    batch=batch,
    device_mesh=device_mesh,
    units=(dataset.target_mean, dataset.target_std),
  )
  arguments = mesh.place((variables, x[rows], y[rows]), mesh.replicated(device_mesh))

  @functools.partial(jax.jit, out_shardings=mesh.replicated(device_mesh))
  def program(variables, x, y, weights_NM):
    def at(weights_M):
      return score(students.average(variables, weights_M), x, y)

    return jax.lax.map(at, weights_NM)

  def scored(weights_NM):
    stopping.check_together()
    size = len(weights_NM)
    weights_NM = np.pad(weights_NM.astype(np.float32), ((0, -size % POINTS), (0, 0)), 'edge')
    with jax.default_matmul_precision(section.precision):
      blocks = [
        mesh.fetch(program(*arguments, weights_NM[i : i + POINTS])) for i in range(0, size, POINTS)
      ]
    return {name: values[:size] for name, values in inference.joined(blocks).items()}

  return scored


def _plane(flat_MF, size: int, side: int, scored) -> Slice | None:
  """Return the plane through the first three rows; the origin is the point next to the average."""
  corners_3F, average_F = flat_MF[:3], flat_MF[:size].mean(0)
  basis_F2, triangle = np.linalg.qr((corners_3F[1:] - corners_3F[0]).T)
  extent = np.abs(np.diag(triangle))
  if extent.min() <= 1e-6 * extent.max():  # on one line, or two points in one place
    return None
  basis_F2 = basis_F2 * np.sign(np.diag(triangle))  # the second point lies right, the third above
  corners_32 = (corners_3F - average_F) @ basis_F2
  low, high = corners_32.min(0), corners_32.max(0)
  middle, half = (low + high) / 2, 0.8 * (high - low).max()
  across, up = (np.linspace(m - half, m + half, side) for m in middle)
  points_N2 = np.stack(np.meshgrid(across, up), -1).reshape(-1, 2)
  weights_NM = np.zeros((len(points_N2), len(flat_MF)))
  weights_NM[:, :3] = barycentric(corners_32, points_N2)
  nll = scored(weights_NM)['nll'].reshape(side, side)
  return Slice(across, up, nll, corners_32[:size])


def barycentric(corners_32, points_N2) -> np.ndarray:
  """Return the weights [N, 3] of three corners, which sum to one, that give each point."""
  system = np.concatenate([corners_32, np.ones((3, 1))], 1).T
  return np.linalg.solve(system, np.concatenate([points_N2, np.ones((len(points_N2), 1))], 1).T).T


def _is_own(student, path) -> bool:
  return bool(student.own & {key.key for key in path})


def _factors(student, variables) -> np.ndarray:
  """Return the factors of every member as one vector: [M, F]."""
  own = [a for path, a in jax.tree_util.tree_leaves_with_path(variables) if _is_own(student, path)]
  return np.concatenate([np.asarray(a, np.float64).reshape(len(a), -1) for a in own], 1)


def _with_third(student, variables, seed: int):
  """Return the variables of two members and a third point, from which a plane can be drawn.

  It lies as far from the average as the members, in a random direction orthogonal to theirs.
  """
  first_F, second_F = _factors(student, variables)
  way_F = (second_F - first_F) / 2
  length = np.linalg.norm(way_F)
  random_F = np.random.default_rng(seed).normal(size=way_F.shape)
  random_F -= way_F * (random_F @ way_F) / max(length**2, 1e-30)
  third_F = (first_F + second_F) / 2 + random_F * length / np.linalg.norm(random_F)
  start = 0

  def leaf(path, a):
    nonlocal start
    if not _is_own(student, path):
      return a
    own, start = third_F[start : start + a[0].size], start + a[0].size
    return np.concatenate([a, own.reshape(1, *a.shape[1:]).astype(a.dtype)])

  return jax.tree_util.tree_map_with_path(leaf, variables)
