"""Rows of a comparison: what role each plays, and how results.json names it."""

from collections.abc import Iterable

MEMBER = 'member'  # one network of the ensemble
ENSEMBLE = 'ensemble'  # the first `size` members together
STUDENT = 'student'  # the distilled network
AVERAGED = 'averaged'  # the plain network that a batch ensemble is averaged into

STUDENTS = (STUDENT, AVERAGED)
_NAMES = {MEMBER: 'member', STUDENT: 'student', AVERAGED: 'student-averaged'}
ROLES = {text: role for role, text in _NAMES.items()}  # of a student's views, among others


def name(role: str, size: int) -> str:
  """Return the name of a row in results.json; `size` counts the members of an ensemble."""
  return f'ensemble-{size}' if role == ENSEMBLE else _NAMES[role]


def of_role(rows: Iterable[dict], *roles: str) -> list[dict]:
  """Return the rows that have one of these roles, in order."""
  return [row for row in rows if row['role'] in roles]


def with_roles(rows: Iterable[dict]) -> list[dict]:
  """Return rows with their fields 'role' and 'size'; results of older versions have names alone."""
  found = []
  for row in rows:
    if 'role' not in row:
      kind, _, size = row['name'].partition('-')
      is_ensemble = row['name'] not in ROLES and kind == 'ensemble'
      role = ENSEMBLE if is_ensemble else ROLES[row['name']]
      row = row | {'role': role, 'size': int(size) if is_ensemble else 1}
    found.append(row)
  return found
