"""Tables: columns by name, rows with errors, and parquet where it is installed."""

import io

import numpy as np
import pytest

from ensdistill.data import DataError
from ensdistill.prediction import tables

COLUMNS = ['a', 'b']


def read(text, columns=COLUMNS, size=2, rows=2):
  binary = io.BytesIO(text if isinstance(text, bytes) else text.encode())
  return list(tables.csv_blocks(binary, columns, size, rows))


def test_columns_are_matched_by_name_in_blocks():
  blocks = read('\ufeffid;b; a\n7;1;2\n8;3;4\n\n9;5;6e0\n')
  assert [len(block.x) for block in blocks] == [2, 1]
  np.testing.assert_array_equal(np.concatenate([b.x for b in blocks]), [[2, 1], [4, 3], [6, 5]])


def test_a_row_that_is_wrong_is_an_error_of_its_own():
  (block,) = read('a,b\n1,2\n1\n,3\nnan,3\n1_0,3\n1,inf\n5,6\n', rows=99)
  np.testing.assert_array_equal(block.x[[0, 6]], [[1, 2], [5, 6]])
  assert block.errors == {
    1: '1 values for 2 columns',
    2: "column 'a' holds '', not a finite number",
    3: "column 'a' holds 'nan', not a finite number",
    4: "column 'a' holds '1_0', not a finite number",
    5: "column 'b' holds 'inf', not a finite number",
  }


def test_numbers_are_written_as_in_training_tables():
  for word in (' 1 ', '+1.', '1e0', '\t01'):
    np.testing.assert_array_equal(read(f'a,b\n{word},3\n')[0].x, [[1, 3]])
  for word in ('１２', '٣', '1_0', '0x1', '1 2'):  # float() reads the first three
    (block,) = read(f'a,b\n{word},3\n')
    assert block.errors == {0: f"column 'a' holds {word!r}, not a finite number"}
  with pytest.raises(ValueError, match='missing'):  # a name, not a number
    read('１２,2\n3,4\n')


@pytest.mark.parametrize(
  ('text', 'why'),
  [
    ('', 'empty'),
    ('1,2\n3,4\n', 'must name the columns'),
    ('a,c\n1,2\n', "missing 'b'"),
    ('a,b,b\n1,2,3\n', "repeated 'b'"),
    ('a,b\n' + 'x' * 200_000, 'cannot be read as a table'),
  ],
)
def test_tables_that_cannot_be_matched_are_refused(text, why):
  with pytest.raises((DataError, ValueError), match=why):
    read(text)


def test_a_student_without_names_takes_its_number_of_columns():
  np.testing.assert_array_equal(read('x,y\n1,2\n', None)[0].x, [[1, 2]])
  with pytest.raises(DataError, match='3 columns, the student takes 2'):
    read('x,y,z\n1,2,3\n', None)


def test_parquet(tmp_path):
  arrow = pytest.importorskip('pyarrow')
  import pyarrow.parquet as parquet

  path = str(tmp_path / 'x.parquet')
  table = {'b': [1, 2, None, 4, 5], 'id': list('vwxyz'), 'a': [True, False, True, True, False]}
  parquet.write_table(arrow.table(table), path)
  blocks = list(tables.parquet_blocks(path, COLUMNS, 2, 2))
  assert [len(block.x) for block in blocks] == [2, 2, 1] and tables.count(path) == 5
  x = np.concatenate([block.x for block in blocks])
  np.testing.assert_array_equal(x[[0, 1, 3, 4]], [[1, 1], [0, 2], [1, 4], [0, 5]])
  assert blocks[1].errors == {0: "column 'b' holds no finite number"}
  with pytest.raises(DataError, match='holds string, not numbers'):
    list(tables.parquet_blocks(path, ['id', 'b'], 2, 2))
  parquet.write_table(arrow.table({'a': [2**53 + 1, 2], 'b': [1, 2]}), path)
  (block,) = tables.parquet_blocks(path, COLUMNS, 2, 2)
  assert block.x[0, COLUMNS.index('a')] == 2.0**53 and not block.errors


def test_separators_and_lines_within_quotes():
  """What training reads, `predict` reads."""
  rows = read('"mass, kg";"length, m"\n1;2\n', columns=['length, m', 'mass, kg'])
  np.testing.assert_array_equal(rows[0].x, [[2, 1]])
  rows = read('"m\nn",o\n3,4\n', columns=['m\nn', 'o'])
  np.testing.assert_array_equal(rows[0].x, [[3, 4]])
  wide = [f'column_{i:06d}' for i in range(12_000)]  # more than a field may hold
  text = ','.join(wide) + '\n' + ','.join(map(str, range(12_000))) + '\n'
  np.testing.assert_array_equal(read(text, wide[::-1], 12_000)[0].x[0], range(11_999, -1, -1))
  for text, columns in (
    ('size 5";size 7"\n1;2\n', ['size 5"', 'size 7"']),
    ('"a ""x"", b";c\n1;2\n', ['a "x", b', 'c']),
  ):
    np.testing.assert_array_equal(read(text, columns)[0].x, [[1, 2]])
