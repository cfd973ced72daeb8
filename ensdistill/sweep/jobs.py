"""The jobs of a sweep: one run for each method, combination of settings, teacher and seed."""

import dataclasses
import functools
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ensdistill import names
from ensdistill.config import identity

# Settings that the sweep itself gives to each job: what to use instead.
OWN = {
  'seed': '--first-seed=N',
  'student.seed': '--seeds=N',
  'seeds': '--seeds=N',
  'workdir': '--out=DIR',
  'name': '--out=DIR',
}
# Sections that decide a teacher, and single settings that do.
_OF_TEACHER = ('data.', 'network.', 'augment.', 'teacher.')
_ELSEWHERE = (
  'data.aux', 'data.content', 'teacher.members', *identity.NOT_FINGERPRINTED
)  # fmt: skip
_LONGEST = 120  # characters of a job's name


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
  """What the teachers and seeds of a sweep repeat: a recipe and the settings that are varied."""

  method: str
  data: str  # of the recipe
  variant: str
  settings: dict[str, Any]  # {path: value} of --set
  config: Any  # its configuration; seed is that of the first teacher

  @property
  def recipe(self) -> str:
    """The name of the recipe, with its variant."""
    return f'{self.method}_{self.data}' + (f':{self.variant}' if self.variant else '')

  @property
  def name(self) -> str:
    """The name in files: recipe and settings; a hash replaces what a file's name cannot hold."""
    settings = [f'{path}={shown(value)}' for path, value in self.settings.items()]
    text = '__'.join([self.recipe.replace(':', '_'), *settings])
    plain = re.sub(r'[^\w.=+-]+', '-', text)[:_LONGEST]
    if plain == text:
      return plain
    return f'{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}'

  @property
  def label(self) -> str:
    """The name in tables: the method and the settings that are varied."""
    return labelled(self.method, self.settings)

  @functools.cached_property
  def ensemble(self) -> str:
    """A name for the settings of the teacher, without its seed; runs of one name share theirs."""
    return of_teacher(self.config)


@dataclasses.dataclass(frozen=True)
class Job:
  """One run of a sweep."""

  kind: Kind
  teacher: int  # number of the ensemble
  seed: int  # number of the student among those of the same ensemble

  @property
  def name(self) -> str:
    """The name in files."""
    return f'{self.kind.name}__t{self.teacher}_s{self.seed}'

  @property
  def title(self) -> str:
    """The name in messages."""
    return f'{self.kind.label} on {self.kind.data}, teacher {self.teacher}, seed {self.seed}'

  @property
  def config(self) -> Any:
    """The configuration of the run."""
    config = self.kind.config.copy_and_resolve_references()
    config.update_from_flattened_dict(self.numbers)
    return config

  @property
  def numbers(self) -> dict[str, int]:
    """The settings that teacher and seed decide; the first seed is that of `ensdistill train`."""
    seed = {'seed': self.kind.config.seed + self.teacher}
    return seed | ({'student.seed': self.seed} if self.seed else {})

  @property
  def decisive(self) -> dict[str, Any]:
    """Everything in the configuration that decides the run's numbers."""
    return identity.decisive(self.config)


def of_teacher(config) -> str:
  """Return a hash of the settings that decide a teacher, besides its seed."""
  settings = identity.decisive(config)
  chosen = {k: v for k, v in settings.items() if k.startswith(_OF_TEACHER) and k not in _ELSEWHERE}
  chosen |= {k: settings.get(k) for k in ('scores', 'validate')}
  return identity.fingerprint(chosen)


def varies_teacher(path: str) -> bool:
  """Return whether a setting decides the teacher, or its size."""
  return path.startswith(_OF_TEACHER) or path in ('scores', 'validate')


def every(kinds: Sequence[Kind], teachers: int, seeds: int) -> list[Job]:
  """Return all jobs: every kind with the first seed of each teacher, then with the second.

  So an unfinished sweep has results of all kinds, and early ones of all teachers.
  """
  numbers = itertools.product(range(seeds), range(teachers))
  return [Job(kind, teacher, seed) for seed, teacher in numbers for kind in kinds]


class Setting(NamedTuple):
  """One --set: a setting and its values, as they were given, for some methods or for all."""

  methods: tuple[str, ...]
  path: str
  values: list[str]


def parse_set(text: str, methods: Iterable[str]) -> Setting:
  """Return what '[METHOD,...:]path=v1,v2' says; raise ValueError with a one-line message."""
  where, equals, values = text.partition('=')
  of, colon, path = where.rpartition(':')
  if not equals or not path or (colon and not of):
    raise ValueError(f'--set={text}: write PATH=V1,V2 or METHOD:PATH=V1,V2')
  chosen = tuple(of.split(',')) if colon else ()
  known = list(methods)
  for method in chosen:
    if method not in known:
      raise ValueError(
        f'--set={text}: {method!r} is not a method of this sweep'
        f'{names.meant(method, known)} Its methods: {", ".join(known)}'
      )
  path = path.removeprefix('config.')
  if path in OWN:
    raise ValueError(f'--set={text}: the sweep decides {path}; use {OWN[path]}')
  found = [unquoted(value) for value in split(values)]
  if len(set(found)) < len(found):
    raise ValueError(f'--set={text}: a value is given twice')
  return Setting(chosen, path, found)


def split(text: str) -> list[str]:
  """Return the values of 'v1,v2'; commas in parentheses, brackets or quotes do not separate."""
  parts, depth, quote = [''], 0, ''
  for character in text:
    if quote:
      quote = '' if character == quote else quote
    elif character in '\'"':
      quote = character
    else:
      depth += (character in '([') - (character in ')]')
    if character == ',' and not depth and not quote:
      parts.append('')
    else:
      parts[-1] += character
  if depth or quote:
    raise ValueError(f'{text!r}: a bracket or a quote is not closed')
  return parts


def unquoted(text: str) -> str:
  """Return a value without the quotes around it."""
  quoted = len(text) > 1 and text[0] == text[-1] and text[0] in '\'"'
  return text[1:-1] if quoted else text


def combinations(settings: Sequence[Setting], method: str) -> list[dict[str, str]]:
  """Return every combination of the values that a method's settings take: {path: value}.

  A setting that names the method replaces one of the same path that names none.
  """
  own = {s.path: s.values for s in settings if not s.methods}
  own |= {s.path: s.values for s in settings if method in s.methods}
  return [dict(zip(own, values)) for values in itertools.product(*own.values())]


def labelled(method: str, settings: Mapping[str, Any]) -> str:
  """Return a method with its settings: 'be_confods (perturb.eta=2)'."""
  text = ', '.join(f'{path}={shown(value)}' for path, value in settings.items())
  return f'{method} ({text})' if text else method


def shown(value: Any) -> str:
  """Return a value as the command line takes it."""
  if isinstance(value, list | tuple):
    return f'({",".join(map(str, value))}{"," if len(value) == 1 else ""})'
  return str(value)
