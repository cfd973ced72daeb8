"""Names of students, and their predictions as plain values."""

import json

import numpy as np
import pytest

from ensdistill.serving import hosted


def test_names(students):
  model = students['table']
  found = hosted.named([(None, 'a', model), ('b', 'c', model)])
  assert [one.name for one in found] == [model.spec['name'].replace(' ', '_'), 'b']
  with pytest.raises(ValueError, match="two students are named 'x', one and two: .* x-2=two"):
    hosted.named([('x', 'one', model), ('x', 'two', model)])


@pytest.mark.parametrize('name', ['a/b', '..', '.', 'a b', 'é', 'a:predict', 'x' * 101])
def test_names_that_no_address_can_hold(students, name):
  with pytest.raises(ValueError, match='must be letters, digits'):
    hosted.named([(name, 'one', students['table'])])


def test_the_size_of_an_answer_counts_members(students):
  values = hosted.Hosted('values', students['values'])
  assert values.values(10, hosted.Options()) == 10
  assert values.values(10, values.check(hosted.Options())) == 10 * (1 + 3)
  own = hosted.Hosted('digits', students['digits'])
  assert own.values(10, hosted.Options()) == 10 * 3
  assert own.values(10, hosted.Options(members=True)) == 10 * 3 * (1 + 3)


def test_numbers_keep_their_digits():
  found = hosted.numbers(np.array([0.1, 1e-9, 1 / 3, 123456.7, np.inf, np.nan], np.float32))
  assert json.dumps(found) == '[0.1, 1e-09, 0.3333333, 123456.7, null, null]'
  value = 1.2345678901234
  assert hosted.numbers(np.array([value])) == [value]
