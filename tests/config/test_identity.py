"""What makes two configurations the same run."""

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
