"""Sets that only the evaluation reads, where several processes share a run."""

import types

import numpy as np
import pictures
import pytest
from several import Service

from ensdistill import data, processes
from ensdistill.evaluation import sets
from ensdistill.processes.group import Group, State


def dataset(*shape):
  x = np.arange(4 * np.prod(shape), dtype=np.float32).reshape(4, *shape)
  part = data.Split(x, np.zeros(4, np.int32))
  known = dict(name='own', shape=shape, columns=None, valid_is_empty=True)
  return types.SimpleNamespace(train=part, test=part, **known)


@pytest.mark.parametrize(
  ('theirs', 'reason'),
  [
    ([4, '', ''], None),
    ([0, '', 'no such folder'], 'no such folder'),
    ([3, '', ''], 'it has 3 examples on one host and 4 on another'),
    ([4, 'other', ''], 'it has other examples on one host than on another'),
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


@pytest.mark.parametrize('unreadable', ['stop', 'skip'])
def test_no_process_waits_for_one_that_lacks_the_set(monkeypatch, tmp_path, unreadable):
  """The other one has raised an error, and will ask for nothing but the outcome."""
  pictures.folder(tmp_path, (3,))
  group = Group(Service(), 0, 2, heartbeat=10.0)
  monkeypatch.setattr(State, 'group', group)
  said = []

  def each(value, what):
    assert not group.client.keys and not group.separate
    said.append(value)
    return [value, [0, '', 'no such folder']]

  monkeypatch.setattr(processes, 'each', each)
  not_run: dict[str, str] = {}
  reading = {'unreadable': unreadable}
  sets.inputs(dataset(12, 12, 3), f'folder:{tmp_path}/class_0', not_run, **reading)
  ((size, digest, problem),) = said
  assert (size, problem) == (3, '') and digest
  assert list(not_run.values()) == ['no such folder']
  # A host on which another image is damaged has another choice of the same size.
  for number in (0, 1):
    pictures.write(tmp_path / 'class_0' / f'00{number}.png', pictures.colour(0, number))
    pictures.damage(tmp_path / 'class_0' / f'00{1 - number}.png')
    sets.inputs(dataset(12, 12, 3), f'folder:{tmp_path}/class_0', {}, unreadable='skip')
  assert [size for size, *_ in said[1:]] == [2, 2] and said[1][1] != said[2][1]


@pytest.mark.parametrize(
  'names', ['npz:a/fog_1,npz:b/fog_1', 'npz:contrast_3,contrast', 'contrast,npz:contrast_3']
)
def test_shifted_sets_of_one_name_are_refused(names):
  with pytest.raises(ValueError, match="have the same name in the results, '(fog|contrast)'"):
    sets.shift_names(dataset(2, 2, 1), names)
  assert sets.shift_names(dataset(2, 2, 1), 'npz:fog_1,npz:fog_2,contrast')
