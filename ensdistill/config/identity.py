"""What makes two configurations the same run: the settings that decide numbers, and their hash."""

import hashlib
import json

from ensdistill import names, runtime

# Settings that may differ between runs that give the same numbers.
NOT_FINGERPRINTED = (
  'workdir',
  'profile',
  'cache',
  'imports',
  'sinks',
  'checkpoint_seconds',
  'watchdog_minutes',
  'on_nan',  # has an effect only on runs that would fail without it
  'steps_per_call',
  'onednn',
  'data.dir',
  'data.stream',
  'data.stream_bytes',
  'data.workers',
  'teacher.check_order',
  'teacher.dir',
  'teacher.outputs',
  'teacher.source',
  'teacher.strategy',
  'teacher.together',
  'teacher.sharded',
  'student.strategy',
  'network.remat',
  'student.network.remat',
)


def to_json(config) -> dict:
  """Return the resolved configuration as plain JSON types."""
  return json.loads(json.dumps(config.to_dict(), sort_keys=True))


def decisive(config) -> dict:
  """Return {'a.b': value} of everything that decides a run's numbers."""
  return {k: v for k, v in names.flatten(to_json(config)).items() if decides(k, v)}


def decides(name: str, value) -> bool:
  """Return whether a setting decides numbers. Unset ones do not, so new settings change nothing."""
  return value is not None and name not in NOT_FINGERPRINTED


def fingerprint(value) -> str:
  """Return a short hash of any JSON value."""
  text = json.dumps(value, sort_keys=True, separators=(',', ':'), allow_nan=False)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


# Fields that hold a digest, and what has changed where they differ.
_CONTENT = {
  'data.content': 'other data',
  'imports_content': 'other code in the imported files',
  'network.content': 'other code in the file of the network',
  'student.network.content': 'other code in the file of the network',
  'teacher.content': 'another given ensemble',
}


def differences(old: dict, new: dict) -> list[str]:
  """Return 'field: old -> new' for every decisive field that differs; digests are shortened."""
  found = []
  for name in sorted(old.keys() | new.keys()):
    if old.get(name) == new.get(name):
      continue
    about = f'{_CONTENT[name]}, ' if name in _CONTENT else ''
    values = [_shortened(name, settings.get(name)) for settings in (old, new)]
    found.append(f'{name}: {about}{" -> ".join(values)}')
  return found


def _shortened(name: str, value) -> str:
  return repr(value[:12] if name in _CONTENT and isinstance(value, str) else value)


def made_by(config, **fingerprints: str) -> dict:
  """Return what made a file, stored in it: settings, fingerprints, versions and git commit."""
  settings = decisive(config)
  return {
    'config': settings,
    'fingerprints': {'config': fingerprint(settings), **fingerprints},
    **runtime.software(),
  }
