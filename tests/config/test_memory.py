"""Settings that save memory: what they change, and what they refuse."""

import pytest
import tiny

from ensdistill.config import identity, member_identity


def test_microbatches_must_divide_the_batch():
  with pytest.raises(ValueError, match='student.microbatches=3 must divide student.batch_size=16'):
    tiny.checked_plan(tiny.config(student__microbatches=3), tiny.dataset())
  with pytest.raises(ValueError, match='teacher.microbatches=0'):
    tiny.checked_plan(tiny.config(teacher__microbatches=0), tiny.dataset())
  plan = tiny.checked_plan(
    tiny.config(student__microbatches=4, teacher__microbatches=2), tiny.dataset()
  )
  assert (plan.student.microbatches, plan.teacher.microbatches) == (4, 2)


def test_remat_changes_no_fingerprint_and_microbatches_do():
  plain, remat = tiny.config(), tiny.config(network__remat=True, student__network__remat=True)
  split = tiny.config(teacher__microbatches=2, student__microbatches=2)
  assert identity.decisive(plain) == identity.decisive(remat)
  assert identity.decisive(plain) != identity.decisive(split)
  data = tiny.dataset()
  assert member_identity.settings(plain, data) == member_identity.settings(remat, data)
  assert member_identity.settings(plain, data) != member_identity.settings(split, data)
  assert tiny.plan(remat, data).student.student.module.backbone.remat
