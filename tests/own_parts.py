"""Registries as they were before a test, so that its imports are forgotten."""

import contextlib

from ensdistill import plugins
from ensdistill.config import recipes

_TABLES = (*plugins.REGISTRIES.values(), recipes.METHODS)


def forget(before=None):
  """Forget all imports, as a new process has none."""
  for table, parts in zip(_TABLES, before or _BEFORE):
    dict.clear(table)
    dict.update(table, parts)
  plugins._loaded.clear()


_BEFORE = [dict(table) for table in _TABLES]


@contextlib.contextmanager
def forgotten():
  """Forget the imports before and after."""
  forget()
  try:
    yield
  finally:
    forget()
