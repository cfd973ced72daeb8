"""Sets that only the evaluation reads, where several processes share a run."""

import types

import numpy as np
import pytest

from ensdistill import data, processes
from ensdistill.evaluation import sets


def dataset(*shape):
  x = np.arange(4 * np.prod(shape), dtype=np.float32).reshape(4, *shape)
  part = data.Split(x, np.zeros(4, np.int32))
  known = dict(name='own', shape=shape, columns=None, valid_is_empty=True)
  return types.SimpleNamespace(train=part, test=part, **known)


@pytest.mark.parametrize(
  ('theirs', 'reason'),
  [
    ([4, ''], None),
    ([0, 'no such folder'], 'no such folder'),
    ([3, ''], 'it has 3 examples on one host and 4 on another'),
  ],
)
def test_a_set_that_one_process_cannot_read_is_left_out_in_all(monkeypatch, theirs, reason):
  monkeypatch.setattr(processes, 'each', lambda value, what: [value, theirs])
  not_run: dict[str, str] = {}
  found = sets.inputs(dataset(3), 'outside', not_run)
  assert ('ood/outside' in found) == (reason is None)
  assert not_run == ({} if reason is None else {'ood/outside': reason})

  monkeypatch.setattr(sets, '_stored', lambda *_: dataset(2, 2, 1).test)
  not_run = {}
  shifted = list(sets.shifted(dataset(2, 2, 1), 'npz:fog_3', not_run, examples=4))
  assert len(shifted) == (reason is None)
  assert not_run == ({} if reason is None else {'shift/npz:fog_3': reason})


@pytest.mark.parametrize(
  'names', ['npz:a/fog_1,npz:b/fog_1', 'npz:contrast_3,contrast', 'contrast,npz:contrast_3']
)
def test_shifted_sets_of_one_name_are_refused(names):
  with pytest.raises(ValueError, match="have the same name in the results, '(fog|contrast)'"):
    sets.shift_names(dataset(2, 2, 1), names)
  assert sets.shift_names(dataset(2, 2, 1), 'npz:fog_1,npz:fog_2,contrast')
