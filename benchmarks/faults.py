"""Inject faults into a small run, and count what came of them:

  python -m benchmarks.faults [ROW ...] [--slice-seconds=600] [--state=FILE] [--workdir=DIR]
  python -m benchmarks.faults --table            prints the table of docs/reliability.md
  python -m benchmarks.faults kill --case=17     one case, with its folder and its output

The rows take turns, a few cases each, until all are done or the time is over. The state is kept in
benchmarks/faults.json, and the same command continues. --again starts the rows afresh. Other
arguments are those of another run in place of the small one: --config=NAME --config....
Every case runs in a process forked from one that has imported everything. One core is enough.
"""

import argparse
import json
import math
import pathlib
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from importlib import metadata

from benchmarks.injected import cases, fuzz, runs

STATE = pathlib.Path(__file__).with_name('faults.json')
KEPT = 20  # descriptions of wrong outcomes of a row
MADE_BY = 'made_by'
TURN = 10  # cases until the next row has its turn


def rows() -> dict[str, cases.Row]:
  """Return all rows by name."""
  from benchmarks.injected import damaged, failing, hostile_inputs, interrupted

  return interrupted.ROWS | failing.ROWS | damaged.ROWS | hostile_inputs.ROWS | fuzz.ROWS


def blank(planned: int) -> dict:
  """Return the state of a row of which nothing was run."""
  return {
    'planned': planned, 'done': 0, 'cases': 0, 'wrong': 0, 'outcomes': {}, 'defects': [],
    'seconds': [], 'failed': {},
  }  # fmt: skip


def made_by() -> dict[str, str | None]:
  """Return what ran last: versions, processor and commit. The devices are not asked for."""
  from ensdistill import runtime

  versions = {'python': platform.python_version(), 'jax': metadata.version('jax')}
  return {**versions, 'processor': runtime.processor(), 'commit': runtime.commit()}


def add(state: dict, found: list[cases.Case], number: int) -> None:
  """Count the outcomes of cases that started with `number`."""
  outcomes = Counter(case.outcome for case in found)
  seconds = [round(case.seconds, 2) for case in found if case.seconds is not None]
  wrong = [case for case in found if not case.right]
  state['outcomes'] = dict(sorted((Counter(state['outcomes']) + outcomes).items()))
  state['cases'] += len(found)
  state['wrong'] += len(wrong)
  state['seconds'] += seconds
  for case in wrong[: KEPT - len(state['defects'])]:
    state['defects'].append(f'{number}: {case.outcome}: {case.about}'[:600])
  if wrong:
    added = {'outcomes': dict(outcomes), 'wrong': len(wrong), 'seconds': seconds}
    state.setdefault('failed', {})[str(number)] = added


def one(row: cases.Row, small: runs.Small, name: str, number: int, keep=False) -> list[cases.Case]:
  """Run a case, or a slice of cases, in a new folder."""
  folder = small.fresh(f'{name}-{number}')
  try:
    found = row.case(small, number, folder)
  except Exception as error:
    found = cases.Case('the benchmark failed', False, repr(error)[-400:])
  if not keep:
    shutil.rmtree(folder, ignore_errors=True)
  return [found] if isinstance(found, cases.Case) else found


def forget(state: dict, number: str) -> None:
  """Take back what `add` counted for a number of which a case was wrong."""
  added = state['failed'].pop(number)
  state['outcomes'] = dict(Counter(state['outcomes']) - Counter(added['outcomes']))
  state['cases'] -= sum(added['outcomes'].values())
  state['wrong'] -= added['wrong']
  for seconds in added['seconds']:
    state['seconds'].remove(seconds)
  state['defects'] = [text for text in state['defects'] if not text.startswith(f'{number}: ')]


def table(state: dict) -> str:
  """Return the table of all rows in Markdown."""
  lines = ['| fault | tried | of | wrong | outcomes |', '|---|---:|---:|---:|---|']
  for name, row in rows().items():
    if own := state.get(name):
      seconds = own['seconds']
      ends = f'; at most {max(seconds):.1f} s to the end' if seconds else ''
      told = '; '.join(f'{count} {outcome}' for outcome, count in shown(own['outcomes']))
      lines.append(
        f'| {row.title} (`{name}`) | {own["cases"]} | {own["planned"]} | {own["wrong"]} '
        f'| {told}{ends} |'
      )
  return '\n'.join(lines)


def shown(outcomes: dict[str, int]) -> list[tuple[str, int]]:
  """Return outcomes, the most frequent first."""
  return sorted(outcomes.items(), key=lambda item: (-item[1], item[0]))


def parse(arguments=None):
  """Return the options, and the arguments of another run."""
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument('rows', nargs='*', metavar='ROW', help='default: all of them')
  parser.add_argument('--state', type=pathlib.Path, default=STATE)
  parser.add_argument('--workdir', type=pathlib.Path, help='default: a temporary folder')
  parser.add_argument('--cache', type=pathlib.Path, help='compilation cache of the runs')
  parser.add_argument('--slice-seconds', type=float, default=float('inf'))
  parser.add_argument('--most', type=int, default=sys.maxsize, help='cases of each row')
  parser.add_argument('--case', type=int, help='run this case alone, and keep its folder')
  parser.add_argument('--again', action='store_true', help='forget what was run of these rows')
  parser.add_argument('--failed', action='store_true', help='run the cases again that were wrong')
  parser.add_argument('--table', action='store_true', help='print the table')
  options, other = parser.parse_known_args(arguments)
  if unknown := [a for a in other if not a.startswith('--config')]:
    parser.error(f'unknown argument {unknown[0]!r}')
  return options, other


def main(arguments=None) -> None:
  """Run the command."""
  options, other = parse(arguments)
  state = json.loads(options.state.read_text()) if options.state.exists() else {}
  if options.table:
    print(table(state))
    return
  known = rows()
  if wrong := [name for name in options.rows if name not in known]:
    raise SystemExit(f'unknown row {wrong[0]!r}; the rows are: {", ".join(known)}')
  left_out = () if fuzz.available() else fuzz.ROWS
  chosen = {name: known[name] for name in options.rows or known if name not in left_out}
  with tempfile.TemporaryDirectory() as temporary:
    folder = options.workdir or pathlib.Path(temporary)
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + options.slice_seconds
    cache = options.cache or folder / 'cache'
    own = (*other, f'--workdir={runs.RUN}') if other else ()
    small = runs.small(folder.resolve(), cache.resolve(), own)
    print(f'the run takes {small.seconds:.1f} s', flush=True)
    if options.case is not None:
      (name,) = options.rows
      for case in one(chosen[name], small, name, options.case, keep=bool(options.workdir)):
        print(case)
      return
    if options.again:
      state = {name: own for name, own in state.items() if name not in chosen}
    if options.failed:
      for name, row in chosen.items():
        for number in list(state.get(name, {}).get('failed', {})):
          forget(state[name], number)
          add(state[name], one(row, small, name, int(number)), int(number))
      save(state, options.state)
    else:
      work(chosen, small, state, options, until)
  print(table(state))
  sys.exit(any(state[name]['wrong'] for name in chosen))


def work(chosen: dict[str, cases.Row], small: runs.Small, state: dict, options, until) -> None:
  """Run the rows by turns; write the state after every turn."""
  for name, row in chosen.items():
    planned = row.planned(small)
    state.setdefault(name, blank(planned))['planned'] = planned
  state[MADE_BY] = made_by()
  open_ = list(chosen)
  while open_ and time.monotonic() < until:
    for name in list(open_):
      row, own = chosen[name], state[name]
      last = min(own['planned'], options.most)
      end = min(own['done'] + max(TURN, row.slice), last)
      began, wrong = time.monotonic(), own['wrong']
      while own['done'] < end and time.monotonic() < until:
        number = scattered(own['done'], own['planned']) if row.slice == 1 else own['done']
        add(own, one(row, small, name, number), number)
        own['done'] += row.slice
      if own['done'] >= last:
        open_.remove(name)
      taken = time.monotonic() - began
      text = f'{name}: {own["done"]} of {own["planned"]}, {own["wrong"]} wrong, {taken:.0f} s'
      print(text, *own['defects'][len(own['defects']) - own['wrong'] + wrong :], flush=True)
      save(state, options.state)


def save(state: dict, path: pathlib.Path) -> None:
  """Write the state; a process that is killed meanwhile leaves the old one."""
  from ensdistill.storage import safe

  safe.write_atomic(path, json.dumps(state, indent=1) + '\n')


def scattered(index: int, size: int) -> int:
  """Return a number below `size`, another one for every index: any beginning covers all of them."""
  step = next(s for s in range(max(1, int(size * 0.618)), 2 * size + 2) if math.gcd(s, size) == 1)
  return index * step % size


if __name__ == '__main__':
  main()
