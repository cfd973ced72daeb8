"""Look up names that users choose; errors suggest the nearest known name."""

import difflib
from collections.abc import Iterable

# (name in papers, name here)
ALIASES = (
  ('hydra', 'multi_head'),
  ('hydra', 'members'),
  ('latentbe', 'batch_ensemble'),
  ('kd', 'mean'),
  ('end2', 'dirichlet'),
  ('end2_proxy', 'proxy_dirichlet'),
)


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
  """Return the one-line error for an unknown name."""
  known = sorted(known)
  meant = {alias: part for alias, part in ALIASES if part in known} | {part: part for part in known}
  near = difflib.get_close_matches(str(name), meant, n=1, cutoff=0.5)
  hint = f': did you mean {meant[near[0]]!r}?' if near else '.'
  return ValueError(f'unknown {kind} {name!r}{hint} known: {", ".join(known) or "none"}')


def lookup(kind: str, name: str, table):
  """Return table[name]; raise ValueError with the known names if `name` is unknown."""
  if name not in table:
    raise unknown(kind, name, table)
  return table[name]


def settings(kind: str, given, known: Iterable[str]):
  """Raise ValueError if a given setting is unknown."""
  known = set(known)
  for name in given:
    if name not in known:
      raise unknown(f'setting of {kind}', name, known)
