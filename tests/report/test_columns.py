"""Columns of the tables and metrics of the verdict are those that the rows have."""

import pytest
from reports import row

from ensdistill.report import columns


def test_classification_and_regression_have_their_own_columns():
  classes = row('member', acc=0.9, nll=0.3, bs=0.1, ece=0.1, pairwise_kl=0.0, cnll=None)
  values = row('member', rmse=1.0, nll=0.3, crps=0.5, coverage_90=0.9, sharpness_90=2.0)
  keys = [[c.key for c in columns.table_columns([r])] for r in (classes, values)]
  assert keys == [
    ['acc', 'nll', 'bs', 'ece', 'pairwise_kl'],
    ['rmse', 'nll', 'crps', 'coverage_90', 'sharpness_90'],
  ]


def test_the_verdict_uses_one_measure_of_disagreement():
  classes = columns.gap_names([row('member', pairwise_kl=0.0, knowledge=0.0)])
  values = columns.gap_names([row('member', knowledge=0.0)])
  assert 'pairwise_kl' in classes and 'knowledge' not in classes
  assert 'knowledge' in values and 'pairwise_kl' not in values


def test_the_verdict_has_knowledge_auroc_only_where_one_member_has_knowledge():
  metrics = {'ood/far/auroc_total': 0.9, 'ood/far/auroc_knowledge': 0.5}
  without = columns.gap_names([row('member', knowledge=0.0, **metrics)])
  having = columns.gap_names([row('member', knowledge=0.1, **metrics)])
  assert set(having) - set(without) == {'ood/far/auroc_knowledge'}


def test_own_corruptions_have_a_note():
  own, stored = 'shift/contrast/3/acc', 'shift/cifar10_corrupted.contrast/3/acc'
  note = columns.shift_note([{'acc': 0.9}, {own: 0.5, 'shift/mean/3/acc': 0.5}])
  assert note == "Corruptions are the package's own and not comparable with CIFAR-10-C."
  assert columns.shift_note([{'acc': 0.9, stored: 0.5, 'shift/mean/3/acc': 0.5}]) is None
  assert columns.shift_note([{'acc': 0.9}]) is None and columns.shift_note([]) is None


def test_numbers_are_short():
  assert [columns.short(v) for v in (77_800, 3.2e9, 12.0)] == ['77.8k', '3.2G', '12']


def test_significant_digits_have_no_exponent():
  form = columns.significant(3)
  shown = [form(v) for v in (0.000652, 0.0999, 1.24, 2.0, 77.84, 1234.4, 0.0)]
  assert shown == ['0.000652', '0.0999', '1.24', '2.00', '77.8', '1234', '0.00']
  assert form(1e-9) == '1e-09' and form(float('nan')) == 'nan' and form(-0.5) == '-0.500'


def test_training_inputs_have_columns_beside_the_test_set_where_they_were_evaluated():
  test = dict(acc=0.9, nll=0.3, pairwise_kl=0.0, knowledge=0.0)
  trained = {'train/acc': 1.0, 'train/nll': 0.01, 'train/pairwise_kl': 0.0}
  found = [row('member', **test), row('student', **test, **trained)]
  assert not columns.training(found[:1])
  keys = ['train/acc', 'acc', 'train/nll', 'nll', 'train/pairwise_kl', 'pairwise_kl']
  assert [c.key for c in columns.training(found)] == keys
  regression = columns.training([row('member', rmse=1.0, **{'train/rmse': 0.5})])
  assert [c.title for c in regression] == ['RMSE (training)', 'RMSE (test)']
  assert not any(c.key.startswith('train/') for c in columns.table_columns(found))


def test_short_numbers_round_up_to_the_next_unit():
  assert [columns.short(n) for n in (999_400, 999_700, 999.6e6, 12.34)] == [
    '999k',
    '1M',
    '1G',
    '12.3',
  ]


def test_what_is_better_is_that_of_the_columns():
  groups = (columns.QUALITY, columns.CALIBRATION, columns.UNCERTAINTY, columns.COST)
  for column in (column for group in groups for column in group if column.better):
    assert columns.higher_is_better(column.key) == (column.better == 'higher'), column.key
  rows = [row('member', knowledge=0.1, **{'ood/far/auroc_total': 0.9})]
  for column in columns.ood_columns(rows):
    assert columns.higher_is_better(column.key)
  for metric in (*columns.gap_names(rows), 'gap_closed/nll', 'pairwise_kl', 'train/acc'):
    lower = metric.rpartition('/')[2] in (
      *('rmse', 'nll', 'cnll', 'bs', 'crps', 'ece', 'calibration_error'),
    )
    assert columns.higher_is_better(metric) == (not lower or metric == 'gap_closed/nll'), metric
  assert not columns.higher_is_better('augrc')
  with pytest.raises(KeyError):
    columns.higher_is_better('accuracy')
