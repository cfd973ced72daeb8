"""Tables hold every row once and mark the best."""

import re

from reports import row, run_of

from ensdistill.report import columns, html, latex, tables

COLUMNS = {column.key: column for column in columns.QUALITY}


def joined(*rows):
  return [tables.Row(r['name'], r, run=str(i)) for i, r in enumerate(rows)]


def known(found, error=0.001):
  """Return a row with this error of the test examples on every metric."""
  return found | {'test_se': dict.fromkeys(found['metrics'], error)}


def test_best_is_what_is_told_from_noise():
  acc, nll, kl = (COLUMNS[key] for key in ('acc', 'nll', 'pairwise_kl'))
  rows = joined(
    known(row('member', acc=0.99, nll=0.1, pairwise_kl=0.0)),
    known(row('student', acc=0.912, nll=0.300, pairwise_kl=0.2)),
    known(row('student', acc=0.911, nll=0.301, pairwise_kl=0.1)),
    known(row('student', acc=0.90, nll=None)),
  )
  assert tables.best(rows, acc) == {1, 2}  # 0.001 is noise, and the member is no rival
  assert tables.best(rows, nll) == set()  # nothing is told from the best
  assert tables.best(rows, kl) == set()
  assert tables.best(rows[:2], acc) == {0}  # one student: against all models
  assert tables.best(rows[:2], nll) == {0}
  assert tables.best(rows[1:2], acc) == set()
  unknown = joined(row('member', acc=0.9), row('student', acc=0.5))
  assert tables.best(unknown, acc) == set()  # noise is not known
  params = joined(row('member', params=10.0), row('student', params=20.0))
  assert tables.best(params, columns.PARAMETERS) == {0}


def test_averages_over_subsets_are_no_rivals():
  some = known(row('ensemble-2', acc=0.999)) | {'subsets': 6}
  rows = joined(known(row('member', acc=0.9)), some, known(row('student', acc=0.95)))
  assert tables.best(rows, COLUMNS['acc']) == {2}
  assert 'averages over subsets' in tables.error_note(rows)


def test_markdown_and_latex_hold_every_row_once_with_the_best_in_bold():
  member, ensemble = row('member', acc=0.9, nll=0.3), row('ensemble-2', acc=0.95, nll=0.2)
  found = [
    run_of('a_b', [member, ensemble, known(row('student', acc=0.92, nll=0.25))]),
    run_of('c|d', [member, ensemble, known(row('student', acc=0.94, nll=0.28))]),
  ]
  lines = [re.split(r'(?<!\\)\|', line)[1:-1] for line in tables.markdown(found).splitlines()]
  assert len({len(line) for line in lines}) == 1
  names = [line[0].strip() for line in lines]
  assert names == ['model', '---', 'member', 'ensemble-2', 'a_b', r'c\|d']
  assert [c.strip() for c in lines[0][1:]] == ['ACC % ↑', 'NLL ↓']
  assert [c.strip() for c in lines[4][1:]] == ['92.00 ± 0.10', '**0.2500**']
  assert [c.strip() for c in lines[5][1:]] == ['**94.00 ± 0.10**', '0.2800']
  tex = latex.booktabs(found)
  assert r'a\_b & 92.00{\scriptsize$\pm$0.10} & \textbf{0.2500} \\' in tex
  assert r'ACC \%~$\uparrow$' in tex
  assert tex.count(r'\begin{tabular}{lrr}') == 1 and tex.count(r'\midrule') == 2
  assert 'ensemble of 2 & 95.00' in tex and r'\caption{digits: quality' in tex


def test_tables_with_own_corruptions_have_a_note():
  def run(kind):
    shifted = {f'shift/{kind}/3/acc': 0.5, 'shift/mean/3/acc': 0.5}
    return [run_of('a', [row('member', acc=0.9, **shifted), row('student', acc=0.9, **shifted)])]

  note = columns.OWN_SHIFTS
  own, stored = run('contrast'), run('cifar10_corrupted.contrast')
  assert tables.markdown(own).endswith(f'|\n\n{note}\n') and note not in tables.markdown(stored)
  assert note in html.results(own)['notes'] and note not in html.results(stored)['notes']
  quality, shift = latex.booktabs(own).split(r'\end{table}')[:2]
  assert note in shift and note not in quality and note not in latex.booktabs(stored)


def test_of_several_runs_each_shows_the_view_that_it_is_about():
  def rows(nll):
    return [row('member', nll=0.3), row('student', nll=nll), row('student-averaged', nll=9)]

  group = [run_of('be', rows(0.2)), run_of('latentbe', rows(0.1), 'averaged')]
  assert [r.label for r in tables.joined(group)] == ['member', 'be', 'latentbe (averaged)']
  assert [r.label for r in tables.others(group)] == ['be (averaged)', 'latentbe (members)']
  alone = [r.label for r in tables.joined(group[:1])]
  assert alone == ['member', 'student', 'student (averaged)'] and not tables.others(group[:1])
  found = html.results(group)
  assert [line['label'] for line in found['others']['rows']] == [
    'be (averaged)',
    'latentbe (members)',
  ]
  assert not any('(members)' in line['label'] for line in found['main']['rows'])


def test_times_are_compared_only_where_machine_and_versions_agree():
  def rows(ms):
    spread = {'ms_per_example/spread': 0.05}
    member = row('member', nll=1.0, ms_per_example=2.0, **spread)
    return [member, row('student', ms_per_example=ms, **spread)]

  here, there = {'processor': 'x', 'jax': '1'}, {'processor': 'y', 'jax': '1'}
  for versions, agree in (((here, here), True), ((here, there), False), (({}, {}), False)):
    found = [run_of(n, rows(ms), versions=v) for n, ms, v in zip('ab', (1.0, 3.0), versions)]
    joined = tables.joined(found)
    assert [r.row['metrics'][columns.RELATIVE_TIME] for r in joined] == [1.0, 0.5, 1.5]
    assert not any('ms_per_example' in r.row['metrics'] for r in joined)
    time = next(c for c in columns.COST if c.key == columns.RELATIVE_TIME)
    assert tables.best(joined, time) == ({1} if agree else set())
    notes = ' '.join(html.results(found)['notes'])
    assert ('same machine and versions' in notes) == agree
    assert ('no time is marked' in notes) == (not agree)
  assert 'ms/example' in tables.markdown(found[:1]) and not tables.time_note(
    tables.joined(found[:1])
  )


def test_another_teacher_has_its_own_rows():
  def rows(nll):
    return [row('member', nll=nll), row('ensemble-2', nll=0.2), row('student', nll=0.3)]

  labels = [r.label for r in tables.joined([run_of('a', rows(0.5)), run_of('b', rows(0.6))])]
  assert labels == ['member', 'ensemble-2', 'member [b]', 'a', 'b']


def test_many_ensembles_are_thinned():
  rows = [row('member'), *(row(f'ensemble-{m}') for m in range(2, 101)), row('student')]
  names = [r['name'] for r in tables.some_ensembles(rows)]
  assert names == ['member', *(f'ensemble-{m}' for m in (2, 4, 8, 16, 32, 64, 100)), 'student']


def test_standard_errors_are_shown_over_seeds():
  one = row('student', nll=0.25) | {'seeds': 3, 'se': {'nll': 0.01}}
  assert tables.cell(one, COLUMNS['nll']) == '0.2500 ± 0.0100'
  found = [run_of('run', [row('member', nll=0.3), one])]
  assert r'0.2500{\scriptsize$\pm$0.0100}' in latex.booktabs(found)
  tested = one | {'metrics': {'acc': 0.9}, 'se': {'acc': 0.03}, 'test_se': {'acc': 0.04}}
  assert tables.cell(tested, COLUMNS['acc']) == '90.00 ± 5.00'  # together


def test_training_inputs_have_a_table_of_their_own():
  member = row('member', nll=0.3, pairwise_kl=0.0)
  student = row('student', nll=0.25, **{'train/nll': 0.0123, 'train/pairwise_kl': 0.5})
  found = [run_of('run', [member, student])]
  first, second = tables.markdown(found).split(f'\n{tables.TRAINING}')
  assert 'training' not in first and 'div. KL' in second
  lines = [
    [cell.strip() for cell in line.split('|')] for line in second.splitlines() if '|' in line
  ]
  assert lines[0][2:4] == ['NLL (training)', 'NLL (test)']
  assert [line[1:4] for line in lines[2:]] == [
    ['member', '-', '0.3000'], ['student', '0.0123', '0.2500']
  ]  # fmt: skip
  page = html.results(found)
  assert page['training_title'] == tables.TRAINING
  assert page['training']['rows'][1]['cells'][0]['text'] == '0.0123'
  without = [run_of('run', [member])]
  assert not html.results(without)['training'] and tables.TRAINING not in tables.markdown(without)


def test_times_have_their_spread_and_coverage_its_sentence(monkeypatch):
  times = {'ms_per_example': 0.5, 'ms_per_example/spread': 0.0625}
  found = row('student', acc=0.9, **times)
  assert tables.cell(found, columns.TIME) == '0.500 ± 0.062'
  said = 'Sets of 90 % hold 91.0 ± 0.9 % of 997 test examples'
  run = run_of('a', [row('member', acc=0.9), row('ensemble-2', acc=0.9), found])
  run.results.update(coverage={'student': said}, timings={})
  assert f'student: {said}' in tables.table(run.results)
  monkeypatch.setattr(html, '_about', lambda run: '')
  assert html._one(run)['students'][0]['notes'] == [said]


def test_the_terminals_table_fits_eighty_columns():
  values = {c.key: 0.1234 for c in columns.QUALITY if c.key not in ('rmse', 'crps', 'coverage_90')}
  values |= {'params': 1e9, 'ms_per_example': 0.5, 'gap_closed/nll': 0.5}
  rows = [known(row(name, **values)) for name in ('member', 'ensemble-16', 'student-averaged')]
  found = {'rows': rows, 'timings': {'teacher': 12.3}, 'coverage': {'student': 'x ' * 90}}
  text = tables.table(found)
  assert max(map(len, text.splitlines())) <= 80
  first = text.splitlines()[0]
  assert 'ACC %' in first and 'gap closed' in first and '--wide' in text and '12.34 ± 0.10' in text
  wide = tables.table(found, wide=True)
  assert 'ms/example' in wide and '1,000,000,000' in wide and '--wide' not in wide
