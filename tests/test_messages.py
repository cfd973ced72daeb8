"""Errors in one line."""

import pytest

from ensdistill import messages


@pytest.mark.parametrize(
  'text, line',
  [
    ('', ''),
    ('one', 'one'),
    ('\n two\n  lines ', 'two lines'),
    ('x' * 200, 'x' * 200),
    ('x' * 201, 'x' * 197 + '...'),
    ('name \udcff.png', r'name \udcff.png'),
    (ValueError('a\nb'), 'a b'),
  ],
)
def test_a_text_becomes_one_short_line_that_can_be_written(text, line):
  assert messages.one_line(text) == line
  line.encode()


def test_an_error_is_described_by_its_type_and_text():
  assert messages.described(KeyError('a')) == "KeyError: 'a'"
  assert messages.described(RuntimeError()) == 'RuntimeError'
  assert messages.described(OSError('a\nb c'), most=4) == 'OSError: a...'
