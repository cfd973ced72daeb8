"""The TPU's program, compiled without a TPU: what devices exchange in a training step."""

import jax
import numpy as np
import pytest
import tiny

from benchmarks import hlo, tpu
from ensdistill.config import recipes

PROGRAM = """
HloModule jit_step, entry_computation_layout={()->()}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (carry: (s32[], f32[8,2])) -> (s32[], f32[8,2]) {
  %carry = (s32[], f32[8,2]{1,0}) parameter(0)
  %part = f32[8,2]{1,0} get-tuple-element(%carry), index=1
  %reduced = f32[8,2]{1,0} all-reduce(%part), replica_groups={{0,1}}, to_apply=%add
}

ENTRY %main (x: f32[8,2]) -> f32[16,2] {
  %x = f32[8,2]{1,0} parameter(0)
  %loop = (s32[], f32[8,2]) while(%x), body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %start = (f32[4]{0}, f32[16]{0}) all-reduce-start(%y, %z), to_apply=%add
  %done = (f32[4]{0}, f32[16]{0}) all-reduce-done(%start)
  %gather = (bf16[8,2]{1,0}, bf16[8,2]{1,0}) all-gather-start(%x), dimensions={0}
}
"""

TRAFFIC = """
%fused (a: f32[16]) -> f32[16] {
  %a = f32[16]{0} parameter(0)
  ROOT %twice = f32[16]{0} add(%a, %a)
}

%turn (b: f32[16]) -> f32[16] {
  %b = f32[16]{0} parameter(0)
  ROOT %minus = f32[16]{0} negate(%b)
}

ENTRY %main (x: f32[16], y: f32[16]) -> f32[16] {
  %x = f32[16]{0} parameter(0)
  %y = f32[16]{0:T(128)S(1)} copy(%x)
  %z = f32[16]{0} fusion(%y), kind=kLoop, calls=%fused
  %start = (f32[8]{0:S(1)}, f32[16]{0}, u32[]) copy-start(%z)
  %loop = f32[16]{0} while(%z), body=%turn, backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_collectives_of_a_loop_count_once_per_turn():
  assert hlo.collectives(PROGRAM) == {
    'all-reduce': (4, 3 * 8 * 2 * 4 + 20 * 4),
    'all-gather': (1, 8 * 2 * 2),
  }


def test_traffic_counts_main_memory_alone():
  assert hlo.traffic(TRAFFIC) == 64 + 64 + 32 + 3 * 128


def digits(method, **changes):
  """Return the plan of a recipe on images like the digits."""
  config = recipes.make(method, 'digits')
  config.update_from_flattened_dict(changes)
  return tiny.plan(config, tiny.dataset(size=512, classes=10, shape=(8, 8, 1)))


@pytest.mark.slow
@pytest.mark.skipif(not tpu.available(), reason='needs libtpu')
@pytest.mark.parametrize(
  'method,changes',
  [
    ('single', {}),
    ('latentbe_tdiv_sdiv', {}),
    ('hydra', {'student.targets': 'online'}),
    ('kd', {'student.microbatches': 2, 'student.targets': 'online'}),
  ],
)
def test_a_step_on_eight_chips_gathers_nothing_and_reduces_gradients_once(method, changes):
  alone = method == 'single'
  step = tpu.step_of(digits(method, **changes), tpu.chips('2x4'), alone=alone)
  assert step.mesh.size == 8
  found = tpu.compiled(tpu.ours(step))['collectives']
  assert set(found) == {'all-reduce'}, found
  gradient = sum(4 * leaf.size for leaf in jax.tree.leaves(step.states.params))
  gradient //= step.mesh.shape['member']
  turns = step.method.microbatches  # a loop reduces the gradient of each microbatch
  assert np.divide(found['all-reduce'][1], gradient) < 1.1 * turns, found
