"""Writers: what is written is read back, in every form; and nothing is left of a failed run."""

import csv
import io
import json
import resource

import numpy as np
import pytest

from ensdistill.commands import usage
from ensdistill.prediction import results, writers
from ensdistill.prediction.results import Wanted
from ensdistill.prediction.sources import Block

CLASSES = ['cat', 'a "dog", or so', '100 %']
WANTED = Wanted(CLASSES, coverage=0.9, abstain=0.05)


class Found:
  """Predictions as a student makes them."""

  probs = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0, 1, 0]], np.float32)
  total = data = knowledge = np.array([1 / 3, 0.5, 0], np.float32)
  invalid = np.array([False, False, True])

  def predict_set(self, coverage, kind):
    return np.array([[True, True, False], [False, False, False], [False, False, False]])

  def abstain(self, rate):
    return np.array([True, False, True])


def blocks():
  yield results.of_block(Block(['lost'], None, {0: 'no file'}), None, WANTED)
  yield results.of_block(Block(['a,b', 'c', 'd'], 'x', {}), Found(), WANTED)


def rows(path):
  with writers.opened(str(path), io.StringIO()) as write:
    for columns in blocks():
      write(columns)
  return path


def test_columns():
  assert results.names(WANTED) == [
    'input', 'label', 'confidence', 'p_cat', 'p_a "dog", or so', 'p_100 %', 'total', 'data',
    'knowledge', 'set', 'abstain', 'error',
  ]  # fmt: skip
  assert results.names(Wanted(coverage=0.9))[1:5] == ['mean', 'q05', 'q50', 'q95']
  assert results.names(Wanted(targets=2, coverage=0.95))[1:5] == [
    'mean_1', 'mean_2', 'q02.5_1', 'q02.5_2'
  ]  # fmt: skip


def check(found, missing, numbers=float):
  assert [row['input'] for row in found] == ['lost', 'a,b', 'c', 'd']
  assert [row['label'] for row in found] == [missing, 'cat', '100 %', missing]
  assert found[1]['set'] == 'cat|a "dog", or so' and found[2]['set'] == ''
  assert numbers(found[1]['total']) == pytest.approx(1 / 3, rel=1e-6)
  assert found[0]['p_cat'] == missing == found[3]['p_cat']
  assert found[0]['error'] == 'no file' and found[1]['error'] == missing
  assert 'NaN' in found[3]['error']


def test_csv(tmp_path):
  with open(rows(tmp_path / 'x.csv'), newline='') as file:
    found = list(csv.DictReader(file))
  check(found, '')
  assert [row['abstain'] for row in found] == ['', 'true', 'false', '']


def test_json_lines(tmp_path):
  found = [json.loads(line) for line in rows(tmp_path / 'x.jsonl').read_text().splitlines()]
  check(found, None)
  assert found[1]['abstain'] is True and list(found[0]) == results.names(WANTED)


def test_parquet(tmp_path):
  parquet = pytest.importorskip('pyarrow.parquet')
  table = parquet.read_table(rows(tmp_path / 'x.parquet'))
  check(table.to_pylist(), None)
  assert table.column_names == results.names(WANTED) and str(table.schema.field(2).type) == 'float'


def test_infinity_is_null_in_json_and_kept_in_csv(tmp_path):
  columns = {'input': ['a'], 'q95': np.array([np.inf]), 'error': ['']}
  for name, expected in (('x.csv', 'a,inf,'), ('x.jsonl', '"q95": null')):
    with writers.opened(str(tmp_path / name), io.StringIO()) as write:
      write(columns)
    assert expected in (tmp_path / name).read_text()


def test_standard_output_and_kinds():
  out = io.StringIO()
  with writers.opened(None, out) as write:
    for columns in blocks():
      write(columns)
  assert out.getvalue().count('\n') == 5
  with pytest.raises(ValueError, match='must end in one of .csv'):
    writers.check('x.xlsx')


def test_places_that_cannot_be_written_are_refused_before(tmp_path):
  (tmp_path / 'x.csv').mkdir()
  with pytest.raises(ValueError, match='is a folder'):
    writers.check(str(tmp_path / 'x.csv'))
  with pytest.raises(ValueError, match='nowhere does not exist'):
    writers.check(str(tmp_path / 'nowhere' / 'x.csv'))
  writers.check(str(tmp_path / 'y.csv'))
  writers.check('y.csv')


def test_nothing_is_left_of_a_failed_run(tmp_path):
  (tmp_path / 'x.csv').write_text('before')
  with pytest.raises(KeyError), writers.opened(str(tmp_path / 'x.csv'), io.StringIO()) as write:
    write(next(blocks()))
    raise KeyError
  assert (tmp_path / 'x.csv').read_text() == 'before' and len(list(tmp_path.iterdir())) == 1


def test_sets_by_name():
  member = np.random.default_rng(0).random((50, 12)) < 0.3
  classes = [str(k) for k in range(12)]
  expected = ['|'.join(c for c, m in zip(classes, row) if m) for row in member]
  assert results.joined(member, classes) == expected


@pytest.mark.parametrize('ending', ['csv', 'jsonl'])
def test_a_disk_that_fills_names_the_file_and_leaves_nothing(tmp_path, ending):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  path = tmp_path / f'out.{ending}'
  path.write_text('old')
  resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
  try:
    with pytest.raises(OSError) as error:
      rows(path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert usage.reason(error.value) == f'{path} cannot be written: File too large'
  assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_an_error_of_reading_is_not_one_of_the_file(tmp_path):
  with pytest.raises(OSError, match='^input$'):
    with writers.opened(str(tmp_path / 'a.csv'), io.StringIO()):
      raise OSError('input')
  assert not list(tmp_path.iterdir())
