"""Rows of a comparison: the role of each row, and its name in results.json."""

from collections.abc import Iterable

MEMBER = 'member'  # one network of the ensemble
ENSEMBLE = 'ensemble'  # `size` members together; an average over subsets of this size
STUDENT = 'student'  # the distilled network
AVERAGED = 'averaged'  # the plain network that a batch ensemble is averaged into

STUDENTS = (STUDENT, AVERAGED)
_NAMES = {MEMBER: 'member', STUDENT: 'student', AVERAGED: 'student-averaged'}
_TITLES = {MEMBER: 'one member', STUDENT: 'student', AVERAGED: 'student, averaged'}
ROLES = {text: role for role, text in _NAMES.items()}  # {name: role} of rows but ensembles


def name(role: str, size: int | None) -> str:
  """Return the name of a row in results.json; `size` counts the members of an ensemble."""
  return f'ensemble-{size}' if role == ENSEMBLE else _NAMES[role]


def title(role: str, size: int | None) -> str:
  """Return the name of a row in pictures and papers."""
  return f'ensemble of {size}' if role == ENSEMBLE else _TITLES[role]


def of_role(rows: Iterable[dict], *roles: str) -> list[dict]:
  """Return the rows that have one of these roles, in order."""
  return [row for row in rows if row['role'] in roles]


def largest_ensemble(rows: Iterable[dict]) -> dict | None:
  """Return the row of the ensemble with the most members; None without an ensemble."""
  return max(of_role(rows, ENSEMBLE), key=lambda row: row['size'], default=None)


def with_roles(rows: Iterable[dict]) -> list[dict]:
  """Return the rows with the fields 'role' and 'size', also where older results lack them.

  The size of a student is None there, because older results do not record it.
  """
  return [row if 'role' in row else row | of_name(row['name']) for row in rows]


def of_name(text: str) -> dict:
  """Return role and size of a row from its name, the only field that older results have."""
  if text in ROLES:
    return {'role': ROLES[text], 'size': None if ROLES[text] == STUDENT else 1}
  kind, _, size = text.partition('-')
  if kind != ENSEMBLE or not size.isdecimal():
    raise ValueError(f'unknown row {text!r}: rows are {", ".join(ROLES)} and ensemble-<members>')
  return {'role': ENSEMBLE, 'size': int(size)}
