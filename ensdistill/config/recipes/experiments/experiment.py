"""An experiment of a paper: what its recipe changes, and what it lacks."""

from typing import NamedTuple

from ensdistill.config.recipes.data_sets import Settings


class Experiment(NamedTuple):
  """Settings on top of a recipe, and what differs from the paper, in one line."""

  settings: Settings
  lacks: str = ''


def on_top(base: Settings, changes: Settings) -> Settings:
  """Return flat settings in which `changes` override those of `base`."""
  return _flat(base) | _flat(changes)


def _flat(settings: Settings) -> Settings:
  flat: Settings = {}
  for name, value in settings.items():
    inner = _flat(value) if isinstance(value, dict) else {'': value}
    flat |= {f'{name}.{field}' if field else name: found for field, found in inner.items()}
  return flat


def lacking(differs: str = '', unknown: str = '', *, is_control: bool = False) -> str:
  """Return what an experiment lacks: what differs from the paper, and what no source states.

  No source states how the student of a control trains.
  """
  ours = ', '.join(filter(None, (unknown, "the control's student" if is_control else '')))
  return '; '.join(filter(None, (differs, ours and f'not known, ours: {ours}')))
