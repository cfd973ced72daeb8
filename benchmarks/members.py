"""Measure M networks trained together, by each strategy: seconds per member over one alone.

  python -m benchmarks.members [--quick] [--json=FILE] [--minutes=25] [--only=TEXT]

`vmap`, `unroll` and `loop` use one device; `shard_map` spreads the members over all devices, if
there are several. A strategy that would compile for over two minutes is left out (the estimate is M
times the compile time of one network; `loop` does not grow). All strategies of a row take turns in
one process. With --json, a second call continues where the first stopped.
"""

import dataclasses

import jax
import numpy as np

from benchmarks import problems, timing
from benchmarks.problems import Row
from ensdistill import members, mesh

COMPILE_LIMIT = 120.0  # seconds
ROWS = {
  'quick': [Row('mlp', size, 32, 'teacher') for size in (4, 16)],
  'cpu': [
    *[Row('mlp', size, 32, 'teacher') for size in (4, 16, 100, 1000)],
    *[Row('resnet20', size, 32, 'teacher') for size in (4, 16)],
    *[Row('wrn28-1', size, 32, 'teacher') for size in (4, 16)],
    *[Row('wrn28-4', size, 8, 'teacher') for size in (4, 16)],
  ],
  'gpu': [
    *[Row('mlp', size, 32, 'teacher') for size in (4, 16, 100, 1000)],
    *[
      Row(network, size, 128, 'teacher', 'bfloat16')
      for network in ('wrn28-1', 'wrn28-4', 'resnet20')
      for size in (4, 16)
    ],
  ],
}


def contender(row: Row, strategy: str) -> timing.Contender:
  """Return the loop's program for the row's networks, on one device or (shard_map) on all."""
  everywhere = strategy == 'shard_map'
  problem = problems.problem(row, 'auto' if everywhere else strategy)
  if not everywhere:
    one = mesh.make(row.members, row.batch, jax.devices()[:1])
    problem = problem._replace(loop=dataclasses.replace(problem.loop, mesh=one))
  return problems.ours(problem)


def measure(row: Row, seconds: float, turn: float) -> dict:
  """Measure one row of the table."""
  onednn = problems.problem(row).loop.onednn
  who = {'one': contender(row._replace(members=1), 'unroll')}
  for strategy in ('loop', 'vmap', 'unroll', 'shard_map'):
    if strategy == 'shard_map' and jax.device_count() == 1:
      continue
    grows = strategy == 'unroll' or (strategy == 'vmap' and _unrolls(row))
    if grows and row.members * (who['one'].compile_seconds or 0) > COMPILE_LIMIT:
      continue
    who[strategy] = contender(row, strategy)
  taken = timing.take_turns(who, seconds=seconds, turn=turn)
  found = {}
  for name, one in who.items():
    size = 1 if name == 'one' else row.members
    found[name] = {
      'seconds_per_member': float(np.median(taken[name])) / size,
      'per_member_over_one': timing.ratio(taken, name, 'one') / size,
      'between': [ratio / size for ratio in timing.extremes(taken, name, 'one')],
      'compile_seconds': one.compile_seconds,
      'gigabytes': one.gigabytes,
    }
  facts = {'row': row._asdict(), 'onednn': onednn, 'rounds': len(taken['one'])}
  return facts | {'contenders': found}


def _unrolls(row: Row) -> bool:
  """Return whether a vmapped convolution is one call per member."""
  return row.network != 'mlp' and jax.default_backend() == 'cpu'


STRATEGIES = (*members.STRATEGIES, 'shard_map')
HEAD = (
  ['network', 'M', 'batch', 'oneDNN', 'one alone, ms', 'compile s']
  + [column for name in STRATEGIES for column in (f'{name}, a member over one', 'compile s')]
  + ['rounds']
)


def table(rows: dict[str, dict]) -> str:
  """Return the rows as Markdown."""
  lines = []
  for found in rows.values():
    row, who = Row(**found['row']), found['contenders']
    line = [f'{row.network} {row.dtype}', str(row.members), str(row.batch)]
    line += ['yes' if found['onednn'] else 'no']
    line += [1e3 * who['one']['seconds_per_member'], who['one']['compile_seconds']]
    for name in STRATEGIES:
      one = who.get(name)
      line += [one and timing.between(one['per_member_over_one'], one['between'])]
      line += [one and one['compile_seconds']]
    lines.append([*line, str(found['rounds'])])
  return timing.markdown(HEAD, lines)


if __name__ == '__main__':
  timing.command(__doc__, ROWS, measure, table)
