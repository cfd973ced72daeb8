"""Tables of a sweep, from records that are written by hand."""

import csv
import json
import math

import pytest
from sweeps import record, sweep
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ensdistill.report import columns
from ensdistill.sweep import models, records, tables

NLL = next(column for column in columns.QUALITY if column.key == 'nll')


def test_rows_are_nested_means():
  (group,) = models.by_data(sweep())
  assert group.title == 'digits:small'
  labels = [model.label for model in group.models]
  assert labels == ['one member', 'ensemble of 4', 'kd', 'hydra']
  found = {model.label: group.row(model).row for model in group.models}
  member, kd = found['one member'], found['kd']
  assert member['metrics']['nll'] == 2.0 and member['se']['nll'] == pytest.approx(1 / 3**0.5)
  assert (member['metrics']['teachers'], member['metrics']['runs']) == (3, 3)
  assert (kd['metrics']['teachers'], kd['metrics']['runs']) == (3, 6)
  assert kd['metrics']['nll'] == pytest.approx(0.9 + 1 + 0.05 / 6)
  assert kd['metrics']['gap_closed/nll'] == pytest.approx((0.1 - 0.05 / 6) / 0.5)


def test_bold_is_better_by_two_paired_errors():
  (group,) = models.by_data(sweep())
  kd, hydra = group.students()
  assert tables.leads(group, hydra, 'kd', NLL) and not tables.leads(group, kd, 'kd', NLL)
  assert tables.leads(group, kd, None, NLL)  # 0.1 lower than one member of each teacher
  difference = models.difference(hydra, kd, 'nll')
  assert difference.mean == pytest.approx(-0.1) and difference.error == pytest.approx(0, abs=1e-9)
  text = tables.markdown(sweep(), 'kd')
  assert '## digits:small: paired differences from kd' in text
  assert '**-0.1000 ± 0.0000**' in text and '| hydra | 3 | 6 |' in text


def test_one_run_has_the_errors_of_its_members_alone():
  (group,) = models.by_data([record('kd', 0, 0, 0.9)])
  found = {model.label: group.row(model).row for model in group.models}
  assert found['one member']['se']['nll'] == 0.01 and found['kd']['se']['nll'] is None
  assert found['kd']['metrics']['gap_closed/nll'] == 0.5
  assert 'nothing about other teachers' in tables.markdown([record('kd', 0, 0, 0.9)], None)


def test_a_mean_over_fewer_runs_says_so():
  made = sweep()
  made[0]['rows'][-1]['metrics']['nll'] = None  # was infinite
  text = tables.markdown(made, 'kd')
  assert text.count('kd, NLL: the mean is over the 5 of 6 runs with a finite value.') == 1
  assert 'with a finite value' not in tables.markdown(sweep(), 'kd')


def test_the_view_that_was_trained_for_is_the_row():
  made = [record('latentbe', t, 0, 0.9 + t, view='averaged') for t in (0, 1)]
  (group,) = models.by_data(made)
  assert [m.label for m in group.students()] == ['latentbe (averaged)']
  assert [m.label for m in group.students(primary=False)] == ['latentbe (members)']
  assert '| latentbe (members) |' in tables.markdown(made, None)


def test_settings_of_the_teacher_give_rows_of_their_own():
  made = [
    record('kd', 0, 0, 0.9, settings={'teacher.steps': n, 'data.limit': 9}, ensemble=str(n))
    for n in (10, 20)
  ]
  (group,) = models.by_data(made)
  assert group.title == 'digits:small (data.limit=9)'
  labels = [model.label for model in group.models]
  assert labels[:2] == ['one member (teacher.steps=10)', 'one member (teacher.steps=20)']
  assert group.teachers_of(group.students()[1])[0].label == 'one member (teacher.steps=20)'


def test_a_baseline_with_settings_is_the_one_with_the_same():
  made = [
    record(method, 0, 0, 0.9, settings={'student.steps': n})
    for n in (1, 2)
    for method in ('kd', 'hydra')
  ]
  (group,) = models.by_data(made)
  hydra = [m for m in group.students() if m.method == 'hydra']
  found = [models.baseline_of(group, m, 'kd').settings['student.steps'] for m in hydra]
  assert found == [1, 2]
  with pytest.raises(ValueError, match='--baseline=nw is not among the students: hydra'):
    tables.check_baseline(made, 'nw')


def test_ranks_over_teachers():
  (table,) = tables.ranks(models.by_data(sweep()))
  ranks = {row.label: row.row['metrics']['nll'] for row in table.rows}
  assert ranks == {'kd': 2.0, 'hydra': 1.0}
  cd = 1.960 * math.sqrt(2 * 3 / (6 * 3))
  assert any(f'NLL: critical difference {cd:.2f} over 3 blocks' in note for note in table.notes)


def test_files(tmp_path):
  tables.write(tmp_path, sweep(), 'kd')
  with open(tmp_path / 'summary.csv') as file:
    lines = {(r['model'], r['metric']): r for r in csv.DictReader(file)}
  assert float(lines['hydra', 'nll']['difference']) == pytest.approx(-0.1)
  assert lines['hydra', 'nll']['baseline'] == 'kd' and lines['one member', 'nll']['baseline'] == ''
  with open(tmp_path / 'runs.csv') as file:
    assert len(list(csv.DictReader(file))) == 12 * 3
  assert (tmp_path / 'summary.html').read_text().count('<table>') >= 3
  latex = (tmp_path / 'summary.tex').read_text()
  assert latex.count(r'\begin{table}') == latex.count(r'\end{table}') > 2
  runs = list((tmp_path / 'tb').iterdir())
  assert len(runs) == 12
  events = EventAccumulator(str(runs[0])).Reload()
  assert 'test/nll' in events.Tags()['scalars']
  tables.write(tmp_path, sweep()[:2], 'kd')
  assert len(list((tmp_path / 'tb').iterdir())) == 2


def test_records_are_read_back(tmp_path):
  path = tmp_path / 'results' / 'one.json'
  made = record('kd', 0, 0, 0.9)
  records.write(path, made)
  assert records.read_all(tmp_path / 'results') == [json.loads(path.read_text())] == [made]
  assert path.read_text().count('\n') < 25
  path.write_text('{"format": 2, "rows": [1], "method": "kd"}')
  with pytest.raises(ValueError, match='not the result of a sweep of format 1'):
    records.read(path)
  path.write_text('{')
  with pytest.raises(ValueError, match='cannot be read'):
    records.read(path)
  with pytest.raises(ValueError, match='holds no results'):
    records.read_all(tmp_path)


def test_a_teacher_that_methods_share_has_one_row():
  """Only one of the methods names the setting that decides it."""
  records = [record('kd', 0, 0, 0.7, settings={'teacher.epochs': 40})]
  records += [record('hydra', 0, 0, 0.6)]
  records += [record('kd', 0, 0, 0.8, settings={'teacher.epochs': 5}, ensemble='other')]
  (group,) = models.by_data(records)
  assert [m.label for m in group.models if not m.student] == [
    'one member', 'one member (teacher.epochs=5)', 'ensemble of 4',
    'ensemble of 4 (teacher.epochs=5)',
  ]  # fmt: skip
