"""Rows of a comparison: their roles, their names in results.json, and how they are averaged."""

from collections.abc import Iterable

import numpy as np

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


def of_repeats(name: str, repeats: list[dict], costs: dict, **fields) -> dict:
  """Return a row of results.json: means over the repeats, their standard errors, and `fields`."""
  means, errors = {}, {}
  for key in repeats[0]:
    values = np.array([r[key] for r in repeats], np.float64)
    values = values[np.isfinite(values)]  # undefined without any error: rejection ratios
    means[key] = float(values.mean()) if len(values) else float('nan')
    spread = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float('nan')
    errors[key] = spread if len(repeats) > 1 else None
  return {'name': name, **fields, 'seeds': len(repeats), 'se': errors, 'metrics': means | costs}


def of_subsets(name: str, repeats: list[dict], costs: dict, **fields) -> dict:
  """Return a row of results.json: means over subsets of members, and their standard deviations.

  Subsets share members, so their spread is not a standard error. Some metrics have fewer subsets.
  """
  means, spread = {}, {}
  for key in repeats[0]:
    values = np.array([r[key] for r in repeats if key in r], np.float64)
    values = values[np.isfinite(values)]
    means[key] = float(values.mean()) if len(values) else float('nan')
    spread[key] = float(values.std(ddof=1)) if len(values) > 1 else None
  fields |= {'seeds': 1, 'se': dict.fromkeys(means), 'subsets': len(repeats), 'spread': spread}
  return {'name': name, **fields, 'metrics': means | costs}
