"""One injected fault and its outcome."""

import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.injected.runs import Ended, Small


class Case(NamedTuple):
  """The outcome of a case in a few words; whether it is right; what a table or a person needs."""

  outcome: str
  right: bool
  about: str = ''
  seconds: float | None = None


class Row(NamedTuple):
  """Cases of one kind: `case(small, number, folder)` runs one of them."""

  title: str
  planned: Callable[[Small], int]
  case: Callable[[Small, int, pathlib.Path], Case | list[Case]]
  slice: int = 1  # cases that one call runs


def continued(small: Small, folder, what: str, about: str = '', seconds=None) -> Case:
  """Run the same command again: it must end with the results of the undisturbed run."""
  again = small.run(folder)
  if again.code or again.wrong:
    return Case('does not continue', False, f'{about}: {again.wrong or again.text[-300:]}', seconds)
  found = small.different(folder)
  if found:
    return Case('other results', False, f'{about}: {found[:3]}', seconds)
  return Case(what, True, about, seconds)


def names_a_path(ended: Ended, folder, path: str) -> bool:
  """Return whether the last line names a file, or a folder of a run that holds it."""
  clean = re.sub(r'\.?([^/]+?)\.\d+-\d+\.part$', r'\1', path)
  line = ended.lines[0] if ended.lines else ''
  place = pathlib.Path(clean)
  while place == pathlib.Path(clean) or len(place.parts) > 2:  # 'runs/a' does not say enough
    if str(place) in line or place.name.partition('.orbax')[0] in re.split(r'[/\s:]+', line):
      return True
    place = place.parent
  return False
