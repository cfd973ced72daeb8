"""Rows of arrays over devices of a mesh, and a teacher whose variables they share."""

import jax
import numpy as np
import pytest
import tiny
from test_mesh import run

from ensdistill import mesh

ROWS = """
import jax, numpy as np
from ensdistill import mesh

where = mesh.make(2, 6)
assert dict(where.shape) == {'member': 2, 'data': 2}
assert [d.id for d in where.devices.ravel()] == [0, 1, 2, 3]  # data groups are neighbours

# Every row lies on one device; together they are all of the rows.
sharding = mesh.by_row(where)
slices = sharding.devices_indices_map((8,)).values()
assert sorted(np.concatenate([np.arange(8)[i] for i in slices])) == list(range(8))
np.testing.assert_array_equal(mesh.own_rows(sharding, 8), np.arange(8))

x = np.arange(24).reshape(8, 3)
placed = mesh.place_rows(x, np.arange(8), 8, sharding)
np.testing.assert_array_equal(mesh.fetch(placed), x)
y = np.arange(48).reshape(2, 8, 3)
placed = mesh.place_rows(y, np.arange(8), 8, mesh.by_row(where, axis=1), axis=1)
np.testing.assert_array_equal(mesh.fetch(placed), y)

# Blocks of an evaluation use all devices, whatever their size.
assert mesh.rounded(6) == 8 and mesh.rounded(8) == 8 and mesh.fitting(10, 4) == [8, 12]
assert mesh.make(1, 6).size == 2 and mesh.make(1, mesh.rounded(6)).size == 4
idle, sizes = '2 idle, because the devices do not divide a ', ': set batch_size to 4 or 8'
assert f'{idle}batch of 6{sizes}' in mesh.note(mesh.make(1, 6), 6)
assert f'{idle}microbatch of 3{sizes}' in mesh.note(mesh.make(2, 3), 6, microbatches=2)
assert mesh.make(2, 2).size == mesh.make(2, 4).size == 4
few = mesh.note(mesh.make(1, 8), 8)
assert 'only 2 example(s) per device: communication limits the speed' in few
assert 'set batch_size to 32, or run 4 runs' in few
assert 'per device' not in mesh.note(mesh.make(1, 32), 32) + mesh.note(mesh.make(4, 8), 8)

# A large teacher is split along its largest axis, never that of its members.
tree = {'a': np.zeros((4, 3, 8)), 'b': np.zeros((4, 3)), 'c': np.zeros((4, 12, 8))}
over = mesh.make(1, 32)
shards = mesh.place(tree, mesh.by_parameter(over, tree))
shapes = {name: a.addressable_shards[0].data.shape for name, a in shards.items()}
assert shapes == {'a': (4, 3, 2), 'b': (4, 3), 'c': (4, 3, 8)}, shapes
print('fine')
"""

SHARDED = """
import sys, jax, tiny
from ensdistill import distillation, mesh
from ensdistill.logs import writers

training = tiny.dataset(size=64)
found = []
for sharded in (False, True):
  config = tiny.config(
    student__kind='batch_ensemble', student__factors='normal', objective__name='members',
    perturb__name='tdiv_sdiv', student__steps=6, teacher__sharded=sharded, teacher__members=3)
  plan = tiny.plan(config, training, sys.argv[1] + str(sharded))
  teacher, _ = tiny.untrained(plan)
  found.append(distillation.distil(plan, teacher, writers.Silent()).variables)
  loop = plan.loop(config.student, plan.student, 1, writers.Silent())
  frozen = distillation._frozen(plan, teacher, loop)
  assert (frozen.sharding is not None) == sharded
difference = tiny.largest_difference(*found)
assert difference < 1e-5, difference
print('fine')
"""


def test_rows_lie_once_on_all_devices():
  assert run(ROWS, 4) == 'fine\n'


@pytest.mark.slow
def test_a_teacher_that_devices_share_teaches_the_same(tmp_path):
  assert run(SHARDED, 4, str(tmp_path / 'run')) == 'fine\n'


def test_one_device_holds_all_rows():
  where = mesh.make(3, 5, jax.devices()[:1])
  assert dict(where.shape) == {'member': 1, 'data': 1}
  np.testing.assert_array_equal(mesh.own_rows(mesh.by_row(where), 5), np.arange(5))
  tree = {'a': np.ones(3), 'key': jax.random.key(1)}
  placed = mesh.place(tree, mesh.replicated(where))
  assert tiny.largest_difference(mesh.fetch(placed['a']), tree['a']) == 0


def test_a_slice_whose_axes_jax_would_not_split_has_a_mesh(monkeypatch):
  def make_mesh(*arguments, **settings):
    raise NotImplementedError('Failed to find assignment')  # 4 x 16 on the 8 x 8 chips of a v6e

  monkeypatch.setattr(jax, 'make_mesh', make_mesh)
  found = mesh.make(4, 8, jax.devices()[:1])
  assert dict(found.shape) == {'member': 1, 'data': 1}
  assert set(found.axis_types) == {jax.sharding.AxisType.Auto}
