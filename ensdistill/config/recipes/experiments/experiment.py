"""An experiment of a paper: what its recipe changes, and what it lacks."""

from typing import NamedTuple

from ensdistill import names
from ensdistill.config.recipes.data_sets import Settings


class Experiment(NamedTuple):
  """Settings on top of a recipe, and what differs from the paper, in one line."""

  settings: Settings
  lacks: str = ''


def on_top(base: Settings, changes: Settings) -> Settings:
  """Return flat settings in which `changes` override those of `base`."""
  return names.flatten(base) | names.flatten(changes)


def lacking(differs: str = '', unknown: str = '', *, is_control: bool = False) -> str:
  """Return what an experiment lacks: what differs from the paper, and what no source states.

  No source states how the student of a control trains.
  """
  ours = ', '.join(filter(None, (unknown, "the control's student" if is_control else '')))
  return '; '.join(filter(None, (differs, ours and f'not known, ours: {ours}')))
