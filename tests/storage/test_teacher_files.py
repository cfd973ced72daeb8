"""Which members train together."""

import pytest

from ensdistill.storage import teacher_files


@pytest.mark.parametrize(
  ('left', 'stored', 'missing', 'together', 'found'),
  [
    ([], [], [0, 1, 2, 3, 4], 2, [[0, 1], [2, 3], [4]]),
    ([], [0, 1, 2], [], 2, []),
    ([[0, 1, 2]], [0], [1, 2, 3], 4, [[0, 1, 2], [3]]),  # begun, and killed while it was stored
    ([[0, 1, 2, 3]], [0], [1], 4, [[1]]),  # begun by a run that wanted more
    ([[0, 1, 2, 3], [2, 3]], [0, 1], [2, 3], 4, [[0, 1, 2, 3]]),  # each member once
  ],
)
def test_groups_that_were_begun_come_first(left, stored, missing, together, found):
  assert teacher_files.groups(left, stored, missing, together) == found


def test_checkpoints_of_stored_members_are_removed(tmp_path):
  for numbers in ([0, 1, 2], [3, 5]):
    teacher_files.checkpoints(tmp_path, numbers).mkdir(parents=True)
  assert teacher_files.remove_finished(tmp_path, [0, 1, 2, 3]) == [[3, 5]]
  assert [path.name for path in (tmp_path / 'checkpoints').iterdir()] == ['members_28']
  assert teacher_files.remove_finished(tmp_path / 'nothing', []) == []
