"""Names and roles of the rows of a comparison."""

import pytest

from ensdistill.evaluation import rows

KNOWN = [
  ('member', 'member', 1),
  ('ensemble-2', 'ensemble', 2),
  ('ensemble-16', 'ensemble', 16),
  ('student', 'student', None),
  ('student-averaged', 'averaged', 1),
]


def test_roles_come_back_from_the_names_of_older_results():
  found = rows.with_roles([{'name': name, 'seeds': 3} for name, _, _ in KNOWN])
  assert [(row['name'], row['role'], row['size']) for row in found] == KNOWN
  assert all(row['seeds'] == 3 for row in found)
  assert [rows.name(role, size) for _, role, size in KNOWN] == [name for name, _, _ in KNOWN]


def test_roles_that_rows_have_are_kept():
  row = {'name': 'student', 'role': 'student', 'size': 4}
  assert rows.with_roles([row]) == [row]


@pytest.mark.parametrize('name', ['students', 'ensemble', 'ensemble-x', 'member-2'])
def test_unknown_rows_are_refused(name):
  with pytest.raises(ValueError, match=f"unknown row '{name}': rows are member, .*ensemble-"):
    rows.with_roles([{'name': name}])


def test_rows_are_chosen_by_role():
  found = rows.with_roles([{'name': name} for name, _, _ in KNOWN])
  assert rows.of_role(found, *rows.STUDENTS) == found[3:]
  assert rows.largest_ensemble(found) is found[2]
  assert rows.largest_ensemble(found[:1]) is None


def test_titles_are_words():
  titles = [rows.title(role, size) for _, role, size in KNOWN]
  assert titles == [
    'one member', 'ensemble of 2', 'ensemble of 16', 'student', 'student, averaged'
  ]  # fmt: skip
