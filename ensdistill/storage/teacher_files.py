"""The folder of an ensemble: its members one by one, and their outputs on training inputs.

Several runs share the folder, and several processes may share a run: the first process writes, and
says what all of them read.
"""

import pathlib
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ensdistill import processes
from ensdistill.storage import checkpoint, safe, sealed_arrays, seals

Say = Callable[[str], None]


def hold(folder: pathlib.Path, waiting: Callable[[str], None]):
  """Hold the folder for this run; call waiting(holder) once if another run has it."""
  lock = folder / 'lock'
  return processes.locked(safe.lock(lock, waiting=lambda: waiting(safe.holder(lock))))


def describe(folder: pathlib.Path, decisive: dict, made_by: Callable[[], dict], say: Say) -> None:
  """Write teacher.json unless it is there; it says what decides the members' numbers."""
  path = folder / 'teacher.json'
  if is_described(folder, decisive):
    return
  if path.exists():
    say(f'warning: {path} is damaged; it is written again')
  seals.write_json(path, {**decisive, seals.MADE_BY: made_by()})


def is_described(folder: pathlib.Path, decisive: dict) -> bool:
  """Return whether teacher.json is sealed and holds these settings."""
  try:
    found = seals.read_json(folder / 'teacher.json', remedy='it is written again')
  except seals.Damaged:
    return False
  return found is not None and decisive.items() <= found.items()


def members(folder: pathlib.Path, wanted: Iterable[int], say: Say | None = None) -> dict[int, Any]:
  """Return those of the wanted members that are stored and whole: {number: variables}.

  say: called with a line about each damaged one.
  """
  found = {}
  if processes.first():
    found = {m: sealed_arrays.load(folder, _name(m), say) for m in wanted}
  there = processes.agreed(lambda: [m for m in wanted if found[m] is not None], 'stored')
  return {m: found[m] if found else _loaded(folder, _name(m)) for m in there}


def all_tensors(folder: pathlib.Path) -> list[dict[str, np.ndarray]]:
  """Return the tensors of the members in a folder, from the first on; raise Damaged."""
  found: list[dict[str, np.ndarray]] = []
  while read := sealed_arrays.read(folder, _name(len(found))):
    found.append(safe.parse_tensors(read[1]))
  return found


def digests(folder: pathlib.Path, size: int) -> list[str]:
  """Return the checksums of the first members."""
  return [sealed_arrays.facts_of(folder, _name(m))['sha256'] for m in range(size)]


def are_sealed(folder: pathlib.Path, numbers: Iterable[int]) -> bool:
  """Return whether these members have seals."""
  return all((folder / f'{_name(m)}.seal').exists() for m in numbers)


def save_member(folder: pathlib.Path, number: int, variables, facts: Mapping[str, Any]) -> None:
  """Store a member, and facts about it."""
  _save_once(folder, _name(number), variables, facts)


def outputs(
  folder: pathlib.Path, name: str, wanted: dict, made_by: dict, compute: Callable, say: Say
) -> np.ndarray:
  """Return the ensemble's outputs that are stored under a name; compute and store missing ones.

  wanted: facts that the stored outputs must have; stale ones are computed again.
  """

  def waiting(holder: str) -> None:
    say(f'teacher {folder.name}: waiting for {holder}, which uses {folder}')

  with hold(folder, waiting):
    processes.by_first(lambda: safe.sweep_parts(folder))
    stored = sealed_arrays.load(folder, name, say, wanted) if processes.first() else None
    if processes.agreed(lambda: stored is not None, 'outputs'):
      say(f'teacher {folder.name}: outputs on the training inputs found')
      return (stored or _loaded(folder, name))['outputs']
    found = compute()
    _save_once(folder, name, {'outputs': found}, wanted | {seals.MADE_BY: made_by})
  return found


def checkpoints(folder: pathlib.Path, numbers: Iterable[int]) -> pathlib.Path:
  """Return the folder of checkpoints of members that train together: bit m is member m."""
  return folder / 'checkpoints' / f'members_{sum(1 << m for m in numbers):x}'


def remove_finished(folder: pathlib.Path, stored: Iterable[int]) -> list[list[int]]:
  """Remove checkpoints of groups whose members are all stored; return the other groups.

  A kill between the last member and the removal leaves them.
  """
  others = []

  def names() -> list[str]:
    return sorted(path.name for path in (folder / 'checkpoints').glob('members_*'))

  for name in processes.agreed(names, 'groups'):
    bits = int(name.removeprefix('members_'), 16)
    numbers = [m for m in range(bits.bit_length()) if bits >> m & 1]
    if set(numbers) <= set(stored):
      checkpoint.remove(folder / 'checkpoints' / name)
    else:
      others.append(numbers)
  return others


def groups(
  left: list[list[int]], stored: Iterable[int], missing: list[int], together: int
) -> list[list[int]]:
  """Return the numbers of the missing members, one list per program that trains them together.

  First come the groups that a kill left, as they were begun. Even a run that was killed while it
  stored its members continues from its last checkpoint, so no number depends on the moment.
  """
  found = []
  for numbers in left:
    if set(numbers) <= {*stored, *missing}:
      found.append(numbers)
      missing = [m for m in missing if m not in numbers]
  return found + [missing[at : at + together] for at in range(0, len(missing), together)]


def _loaded(folder: pathlib.Path, name: str):
  """Return the tensors of a file that the first process has found whole."""
  tensors = sealed_arrays.load(folder, name)
  if tensors is None:
    raise seals.differs(folder / f'{name}.safetensors', here=socket.gethostname())
  return tensors


def _save_once(*file) -> None:
  """Store a file; of several processes that share the run, the first does."""
  processes.by_first(lambda: sealed_arrays.save(*file))


def _name(number: int) -> str:
  return f'member_{number:03d}'
