"""Nested arrays with facts about them: NAME.safetensors and NAME.json, under one seal."""

import hashlib
from collections.abc import Callable

from ensdistill.storage import safe, seals


def save(folder, name, variables, facts) -> None:
  """Store nested arrays, and facts about them as JSON."""
  weights = f'{name}.safetensors'
  content = safe.tensors_content(folder / weights, safe.flatten(variables))
  text = seals.to_json({'sha256': hashlib.sha256(content).hexdigest(), **facts})
  seals.write(folder, name, {weights: content, f'{name}.json': text})


def read(folder, name) -> tuple[dict, bytes] | None:
  """Return the facts and the tensors of a stored file; None if there is none."""
  weights, facts = f'{name}.safetensors', f'{name}.json'
  remedy = f'remove {folder / name}.* and run the same command again'
  found = seals.read(folder, name, [weights, facts], remedy=remedy)
  if found is None:
    return None
  try:
    description = seals.parse(found.files[facts])
  except ValueError as error:
    raise seals.Damaged(folder / facts, f'is damaged ({error})', remedy) from None
  digest = hashlib.sha256(found.files[weights]).hexdigest()
  if description.get('sha256') != digest:
    raise seals.Damaged(folder / weights, f'is damaged (its SHA-256 is {digest})', remedy)
  return description, found.files[weights]


def facts_of(folder, name) -> dict:
  """Return the facts of a stored file."""
  found = read(folder, name)
  if found is None:
    remedy = 'run the same command again'
    raise seals.Damaged(folder / f'{name}.safetensors', 'is missing', remedy)
  return found[0]


def load(folder, name, say: Callable[[str], None] | None = None, wanted=None):
  """Return a stored file's tensors; None if it is missing, or damaged.

  say: called with a warning about a damaged file.
  wanted: facts that must match; otherwise the file is stale.
  """
  path = folder / f'{name}.safetensors'
  try:
    found = read(folder, name)
    if found is None:
      return None
    facts, content = found
    if any(facts.get(key) != value for key, value in (wanted or {}).items()):
      raise ValueError('stale: made from other members or settings')
    return {'batch_stats': {}, **safe.unflatten(safe.parse_tensors(content))}
  except seals.Damaged as error:
    problem = f'{error.path} {error.problem}'
  except ValueError as error:
    problem = f'{path} cannot be used ({error})'
  if say:
    say(f'warning: {problem}; it is computed again')
  return None
