"""Tables in text files: targets, splits, and missing values."""

import numpy as np
import pytest

from ensdistill import data
from ensdistill.data.sources import table


@pytest.fixture
def write(tmp_path):
  """Write 40 rows of two inputs and these targets; `changed` replaces lines (header: 1)."""

  def write(targets, *, header='a,b,t', changed=None, separator=','):
    random = np.random.RandomState(0)
    lines = [header, *(f'{a:.4f},{b:.4f},{t}' for (a, b), t in zip(random.randn(40, 2), targets))]
    for number, line in (changed or {}).items():
      lines[number - 1] = line
    path = tmp_path / 'table.csv'
    path.write_text('\n'.join(lines).replace(',', separator) + '\n\n', encoding='utf-8-sig')
    return f'csv:{path}'

  return write


def test_words_and_whole_numbers_are_classes(write):
  for words, classes in (
    (['red', 'blue', '"dark, green"', 'blue'] * 10, ('blue', 'dark, green', 'red')),
    ([10, 9, 9, 3] * 10, ('3', '9', '10')),
  ):
    loaded = data.load(write(words), target='t')
    assert loaded.family == 'categorical' and loaded.classes == classes and loaded.targets == 3
    assert loaded.columns == ('a', 'b') and loaded.shape == (2,)
    # A tenth of every class: one of the ten, two of the twenty.
    assert sorted(np.bincount(loaded.test.y).tolist()) == [1, 1, 2]
    assert [len(s.y) for s in (loaded.train, loaded.valid)] == [33, 3]
    found = {tuple(x) for s in (loaded.train, loaded.valid, loaded.test) for x in s.x.tolist()}
    assert len(found) == 40
  assert data.load(write(words), target='t', split=1).fingerprint != loaded.fingerprint


def test_a_class_of_one_row_is_for_training(write):
  loaded = data.load(write(['rare', *['x', 'y'] * 20][:40]), target='t')
  assert 'rare' == loaded.classes[0] and 0 in loaded.train.y


def test_numbers_are_regression(write):
  values = np.linspace(-3, 5, 40).round(3)
  path = write(values, header='t,b,a')  # the target is a column like any other
  loaded = data.load(path, target='a')
  assert loaded.family == 'gaussian' and loaded.columns == ('t', 'b')
  everything = np.concatenate([s.y for s in (loaded.train, loaded.valid, loaded.test)])[:, 0]
  np.testing.assert_allclose(np.sort(everything), values, rtol=1e-6)
  np.testing.assert_allclose(loaded.target_mean, loaded.train.y.mean(0), rtol=1e-5)
  for separator in (';', '\t'):
    assert data.load(
      write(values, header='t,b,a', separator=separator), target='a'
    ).fingerprint == (loaded.fingerprint)


def test_a_setting_makes_whole_numbers_regression_targets(write):
  path = write(range(40))
  with pytest.raises(ValueError, match="'t' holds 40 different whole numbers in 40 rows: set "):
    data.load(path, target='t')
  assert data.load(path, target='t', family='gaussian').targets == 1
  few = write([0, 1] * 20)
  assert data.load(few, target='t').family == 'categorical'
  assert data.load(few, target='t', family='gaussian').family == 'gaussian'
  floats = data.load(write([0.5, 1.5] * 20), target='t', family='categorical')
  assert floats.classes == ('0.5', '1.5')


@pytest.mark.parametrize(
  'changed, message',
  [
    ({7: '1.0,,2.5'}, r"table.csv, line 7, column 'b': the value is missing \(''\)"),
    ({7: '1.0, NA,2.5'}, r"line 7, column 'b': the value is missing \('NA'\)"),
    ({9: 'nan,1.0,2.5'}, "line 9, column 'a': the value is missing"),
    ({3: '1.0,2.0,?'}, "line 3, column 't': the value is missing"),
    ({41: 'red,2.0,2.5'}, "line 41, column 'a': 'red' is not a finite number"),
    ({4: 'inf,2.0,2.5'}, "line 4, column 'a': 'inf' is not a finite number"),
    ({6: '1_000,2.0,2.5'}, r"line 6, column 'a': '1_000' is not written as a number: use digits"),
    ({6: '1.0,１２,2.5'}, r"line 6, column 'b': '１２' is not written as a number"),
    ({6: '1.0,2.0,2_5'}, r"column 't': '2_5' is not written as a number.*family='categorical'"),
    ({5: '1.0,2.0'}, 'line 5: 2 values for 3 columns'),
    ({1: 'a,a,t'}, "two columns named 'a'"),
    ({1: '1,2,3'}, r'the first line \(1,2,3\) must name the columns'),
  ],
)
def test_errors_name_line_and_column(write, changed, message):
  path = write(np.linspace(0.5, 1, 40), changed=changed)
  with pytest.raises(data.DataError, match=message) as caught:
    data.load(path, target='t')
  assert '\n' not in str(caught.value)


def test_wrong_usage(write, tmp_path):
  path = write(['x', 'y'] * 20)
  with pytest.raises(ValueError, match='set data.target to one of its columns: a, b, t'):
    data.load(path)
  with pytest.raises(ValueError, match="unknown data.target 'tt': did you mean 't'"):
    data.load(path, target='tt')
  with pytest.raises(ValueError, match="unknown data.family 'classes'"):
    data.load(path, target='t', family='classes')
  with pytest.raises(data.DataError, match="column 't': 'x' is not a finite number"):
    data.load(path, target='t', family='gaussian')
  with pytest.raises(data.MissingData, match='file nothing.csv does not exist'):
    data.load('csv:nothing.csv')
  (tmp_path / 'empty.csv').write_text('a,b\n')
  with pytest.raises(data.DataError, match='holds a header and 0 rows'):
    data.load(f'csv:{tmp_path}/empty.csv', target='a')
  (tmp_path / 'binary.csv').write_bytes(bytes(range(256)))
  with pytest.raises(data.DataError, match='cannot be read as a table'):
    data.load(f'csv:{tmp_path}/binary.csv', target='a')


@pytest.mark.parametrize(
  'words, message',
  [
    (['1', '1.0'] * 20, "column 't': classes '1' and '1.0' are the same number: write one of them"),
    (['cat'] * 40, r"holds a single class \('cat'\): classification needs two"),
  ],
)
def test_classes_of_one_name_or_a_single_one_are_refused(write, words, message):
  with pytest.raises(data.DataError, match=message):
    data.load(write(words), target='t', family='categorical')


def test_a_field_and_the_columns_are_limited(tmp_path):
  (tmp_path / 'a.csv').write_text('a,t\n' + '1' * 200_000 + ',2\n')
  with pytest.raises(data.DataError, match='field larger than field limit'):
    data.load(f'csv:{tmp_path}/a.csv', target='t')
  (tmp_path / 'a.csv').write_text(','.join(map('c{}'.format, range(100_001))) + '\n')
  with pytest.raises(data.DataError, match='has 100,001 columns; the limit is 100,000'):
    data.load(f'csv:{tmp_path}/a.csv', target='t')


def test_a_table_serves_as_inputs_without_a_target(write):
  inputs = data.load_inputs(write(np.linspace(0, 1, 40)), shape=(3,))
  assert inputs.shape == (40, 3) and inputs.dtype == np.float32


@pytest.mark.parametrize('word', ['1', '+1.', '-.5', '1e3', '2.5E-7', 'inf', '-Infinity', 'NaN'])
def test_a_number(word):
  assert table.is_number(word) and isinstance(float(word), float)


@pytest.mark.parametrize('word', ['', '.', 'e3', '1_0', '１２', '٣', '0x1', '1 2', '1,5', 'one'])
def test_what_is_not_a_number(word):
  assert not table.is_number(word)


@pytest.mark.parametrize('note', ['word', '', '1_0'])
def test_columns_that_are_left_out_may_hold_anything(tmp_path, note):
  (tmp_path / 'x.csv').write_text(f'b,note,a\n1,{note},2\n3,{note},4\n')
  name = f'csv:{tmp_path}/x.csv'
  np.testing.assert_array_equal(
    data.load_inputs(name, shape=(2,), columns=('a', 'b')), [[2, 1], [4, 3]]
  )
  with pytest.raises(data.DataError, match=f"line 2, column 'note': .*'{note}'"):
    data.load_inputs(name, shape=(3,))
  with pytest.raises(data.DataError, match=f"line 2, column 'note': .*'{note}'"):
    data.load_inputs(name, shape=(2,), columns=('a', 'note'))
  for wanted in (('a', 'c'), ('c', 'd')):
    with pytest.raises(data.DataError, match=f"has no column 'c': it needs {wanted[0]}, "):
      data.load_inputs(name, shape=(2,), columns=wanted)


@pytest.mark.parametrize('separator', [',', ';', '\t'])
@pytest.mark.parametrize(
  'names',
  [
    ['size 5"', 'b', 'size 7"'],
    ['"a ""x"", b; c\td"', 'b', 't'],
    ['b', ' "a, ""x"""', 't'],
    ['it\'s 5"', 'x"y', 't'],
  ],
)
def test_quotes_in_a_header_do_not_hide_the_separator(write, names, separator):
  header = '|'.join(names)
  name = write(np.linspace(0.5, 1, 40), header='a|b|t', separator=separator)
  path = name.removeprefix('csv:')
  with open(path, encoding='utf-8-sig') as file:
    lines = file.read().split('\n')
  lines[0] = header.replace('|', separator)
  with open(path, 'w') as file:
    file.write('\n'.join(lines))
  found = data.load(name, target=names[-1])
  plain = [c.strip()[1:-1].replace('""', '"') if c.strip()[0] == '"' else c for c in names]
  assert list(found.columns) == plain[:2]
