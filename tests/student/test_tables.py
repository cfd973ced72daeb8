"""Tables are matched by the names of their columns."""

import decimal

import numpy as np
import pytest

from ensdistill.student import tables

from .conftest import COLUMNS, TABLE

ORDER = [2, 0, 1]
FRAMES = ['dicts', 'structured', 'pandas', 'polars']


def frame(kind: str, columns, x):
  """Return a table of a kind with these columns."""
  if kind == 'dicts':
    return [dict(zip(columns, row.tolist())) for row in x]
  if kind == 'structured':
    found = np.zeros(len(x), [(name, np.float64) for name in columns])
    for i, name in enumerate(columns):
      found[name] = x[:, i]
    return found
  module = pytest.importorskip(kind)
  return module.DataFrame({name: x[:, i] for i, name in enumerate(columns)})


@pytest.mark.parametrize('kind', FRAMES)
def test_the_order_of_columns_does_not_matter(table, kind):
  expected = table.predict(TABLE)
  names = [COLUMNS[i] for i in ORDER]
  found = table.predict(frame(kind, names, TABLE[:, ORDER]))
  np.testing.assert_allclose(found.probs, expected.probs, atol=1e-6)
  assert not found.outside.any()


@pytest.mark.parametrize('kind', FRAMES)
def test_missing_and_unknown_columns_are_named(table, kind):
  with pytest.raises(ValueError, match="columns do not match: missing 'weight'; the student takes"):
    table.predict(frame(kind, COLUMNS[:2], TABLE[:, :2]))
  wrong = frame(kind, ['age', 'hight', 'weight'], TABLE)
  with pytest.raises(ValueError, match="missing 'height'; not known 'hight'; is 'hight' meant"):
    table.predict(wrong)
  wider = frame(kind, [*COLUMNS, 'label'], np.c_[TABLE, TABLE[:, :1]])
  with pytest.raises(ValueError, match="match: not known 'label'; the student takes 'age'"):
    table.predict(wider)


def test_repeated_columns_are_named(table):
  pandas = pytest.importorskip('pandas')
  twice = pandas.DataFrame(np.c_[TABLE, TABLE[:, :1]], columns=[*COLUMNS, 'age'])
  with pytest.raises(ValueError, match="match: repeated 'age'"):
    table.predict(twice)


def test_names_need_names(unnamed):
  with pytest.raises(ValueError, match='does not know the names of its columns: give an array'):
    unnamed.predict(frame('dicts', COLUMNS, TABLE))


def test_one_dict_is_one_example(table):
  one = frame('dicts', COLUMNS, TABLE)[3]
  np.testing.assert_allclose(table.predict(one).probs, table.predict(TABLE[3]).probs, atol=1e-6)
  pandas = pytest.importorskip('pandas')
  series = pandas.DataFrame(TABLE, columns=COLUMNS).iloc[3]
  np.testing.assert_allclose(table.predict(series).probs, table.predict(TABLE[3]).probs, atol=1e-6)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'age': '31'}, "column 'age', row 1: '31' is a str, not a number"),
    ({'age': [31]}, r"column 'age', row 1: \[31\] is a list"),
    ({'age': object}, "column 'age', row 1: <class 'object'> is a type"),
    ({'age': 10**400}, "column 'age', row 1: a number that float64 cannot hold"),
    ({'age': None}, "row 1, column 'age', holds NaN"),
    ({'age': 3j}, "column 'age', row 1: 3j is a complex"),
    ({'extra': 1}, "row 1 also has 'extra', unlike row 0"),
  ],
)
def test_rows_of_dicts_are_checked(table, changes, words):
  rows = frame('dicts', COLUMNS, TABLE)
  rows[1] = rows[1] | changes
  with pytest.raises(ValueError, match=words):
    table.predict(rows)


def test_rows_of_another_kind_are_named(table):
  rows = frame('dicts', COLUMNS, TABLE)
  with pytest.raises(ValueError, match='row 1 is a list, other rows are dicts'):
    table.predict([rows[0], [1, 2, 3]])
  with pytest.raises(ValueError, match="row 1 lacks 'age', unlike row 0"):
    table.predict([rows[0], {k: v for k, v in rows[1].items() if k != 'age'}])
  with pytest.raises(ValueError, match="row 0 has two entries named '1'"):
    table.predict([{1: 2.0, '1': 3.0}])


def test_numbers_of_every_kind():
  values = [True, 1, 2.5, np.float32(0.5), np.int8(3), decimal.Decimal('1.25'), np.bool_(1)]
  found = tables.numbers_of([*values, None, np.array(4.0)], 'here')
  np.testing.assert_array_equal(found, [1, 1, 2.5, 0.5, 3, 1.25, 1, np.nan, 4])


def test_missing_values_and_types_of_pandas(table):
  pandas = pytest.importorskip('pandas')
  x = pandas.DataFrame(TABLE[:4], columns=COLUMNS)
  whole = x.assign(age=pandas.array([30, 40, 50, 60], 'Int64'))
  assert table.predict(whole).probs.shape == (4, 2)
  with pytest.raises(ValueError, match="row 1, column 'age', holds NaN"):
    table.predict(whole.assign(age=pandas.array([30, None, 50, 60], 'Int64')))
  flagged = table.predict(whole.assign(age=[30, None, 50, 60]), on_invalid='flag')
  assert flagged.invalid.tolist() == [False, True, False, False]
  for other, words in (
    (pandas.Series(['a', 'b', 'c', 'd']), "'a' is a str"),
    (pandas.to_datetime(['2020-01-01'] * 4), 'holds datetime64'),
    (pandas.Categorical(['a', 'b', 'a', 'b']), "'a' is a str"),
  ):
    with pytest.raises(ValueError, match=f"column 'age'.*{words}"):
      table.predict(x.assign(age=other))


def test_types_of_polars(table):
  polars = pytest.importorskip('polars')
  x = polars.DataFrame({'age': [30, None], 'height': [1.5, 1.6], 'weight': [50, 60]})
  with pytest.raises(ValueError, match="row 1, column 'age', holds NaN"):
    table.predict(x)
  with pytest.raises(ValueError, match='lazy frame: call its collect'):
    table.predict(x.lazy())
  with pytest.raises(ValueError, match="column 'age'.*'a' is a str"):
    table.predict(x.with_columns(age=polars.Series(['a', 'b'])))
