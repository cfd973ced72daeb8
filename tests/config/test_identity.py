"""What makes two configurations the same run."""

import json

import tiny

from ensdistill.config import identity


def test_a_fingerprint_knows_what_decides_numbers():
  decisive = identity.decisive(tiny.config())
  for name in ('profile', 'checkpoint_seconds', 'teacher.dir', 'data.dir', 'workdir'):
    assert name not in decisive
  other = identity.decisive(tiny.config(student__steps=7))
  assert identity.differences(decisive, other) == ['student.steps: 6 -> 7']
  assert identity.fingerprint(decisive) != identity.fingerprint(other)
  assert identity.fingerprint(decisive) == identity.fingerprint(dict(reversed(decisive.items())))


def test_what_made_a_file_holds_settings_and_versions_but_no_folders():
  config = tiny.config(teacher__dir='/some/teachers', workdir='/some/run')
  made_by = identity.made_by(config, teacher='abc')
  assert made_by['config'] == identity.decisive(config)
  assert made_by['fingerprints'] == {
    'config': identity.fingerprint(identity.decisive(config)),
    'teacher': 'abc',
  }
  assert {'python', 'jax', 'flax', 'devices'} <= made_by['versions'].keys()
  assert 'commit' in made_by and '/some' not in json.dumps(made_by)
