"""What decides the numbers of an ensemble's members, and so the fingerprint of their folder."""

from ensdistill import data
from ensdistill.config import identity

FORMAT = 1  # of the stored files; part of the fingerprint
# Settings of the section `teacher` that leave the numbers of a member as they are.
ELSEWHERE = ('dir', 'members', 'strategy', 'together', 'sharded')


def settings(config, dataset) -> dict:
  """Return what decides a member's numbers: not the number of members, devices or folders."""
  section = identity.to_json(config)
  recipe = {k: v for k, v in section['teacher'].items() if k not in ELSEWHERE}
  chooses = recipe['keep'] == 'best'
  validate = section['validate'] if chooses else None
  return {
    'format': FORMAT,
    'data': dataset.fingerprint,
    'network': _set({k: v for k, v in section['network'].items() if k != 'remat'}),
    'augment': _augmentation(section['augment']),
    'recipe': _set(recipe),
    'scores': section['scores'] if chooses and not validate else None,
    'seed': section['seed'],
  } | ({'validate': validate} if validate else {})


def _augmentation(section: dict) -> dict:
  """Return the settings of the augmentation that are set, with the version of a rotation."""
  version = {'rotation': data.augment.ROTATION} if section['rotate'] else {}
  return _set(section) | version


def _set(section: dict) -> dict:
  """Return the settings that are set; so a new setting changes no fingerprint until it is set."""
  inner = {k: _set(v) if isinstance(v, dict) else v for k, v in section.items()}
  return {k: v for k, v in inner.items() if v is not None}
