"""The verdict on one student and the comparison of several."""

from reports import gap_rows

from ensdistill.report import columns, tables, verdict


def test_the_verdict_says_how_much_of_the_gap_is_closed():
  rows = gap_rows()
  found = verdict.gaps(rows, rows[-1])
  assert [(g.metric, g.closed, g.error) for g in found.closed] == [
    ('acc', 0.9, 0.125),
    ('nll', 0.5, None),
  ]
  assert found.no_gap == ['Brier score']
  assert found.worse == ['calibration (ECE)']  # the ensemble's is higher: closing it is no merit
  text = verdict.sentence('The student', rows, rows[-1])
  assert '50 % of the gap in NLL' in text and '90 ± 12 % of the gap in accuracy' in text
  assert 'equals an ensemble of 1.5 members' in text and '0.25 × the ensemble’s parameters' in text
  assert 'cannot tell knowledge' in text
  assert 'It is worse than one network in calibration (ECE).' in text
  rows[0]['se']['ece'] = 0.03  # as far as one member from another
  assert 'worse' not in verdict.sentence('The student', rows, rows[-1])


def test_the_verdict_of_a_student_that_closes_nothing():
  rows = gap_rows()
  rows[-1]['metrics'] |= {'gap_closed/acc': -0.5, 'gap_closed/nll': -0.1}
  text = verdict.sentence('The student', rows, rows[-1])
  assert 'closes none of the gap in NLL and accuracy between one network' in text
  assert '-' not in text
  alone = verdict.sentence('The student', [rows[0], rows[-1]], rows[-1])
  assert 'no ensemble to compare with' in alone


def test_a_share_far_outside_of_the_gap_has_no_digits():
  """A bad student of an ensemble that gains little would have thousands of percent."""
  rows = gap_rows()
  rows[-1]['metrics'] |= {'gap_closed/acc': 25.0, 'gap_closed/nll': -129.46}
  best, worst = verdict.gaps(rows, rows[-1]).closed
  assert [verdict.percent(gap) for gap in (best, worst)] == ['> 1000', '< -100']
  text = verdict.sentence('The student', rows, rows[-1])
  assert '> 1000 % of the gap in accuracy' in text and '129' not in text
  table = tables.table({'rows': rows, 'timings': {}})
  (line,) = [line for line in table.splitlines() if line.startswith('student')]
  assert line.endswith('  < -100 %') and '12946' not in table
  student = rows[-1] | {'seeds': 2, 'se': {'gap_closed/nll': 0.1}}
  assert tables.cell(student, columns.GAP) == '< -100 %'
  student['metrics']['gap_closed/nll'] = 0.5
  assert tables.cell(student, columns.GAP) == '50 ± 10 %'


def test_more_disagreement_than_the_ensemble_has_is_no_merit():
  far, near = (verdict.Gap('pairwise_kl', 'disagreement', closed, None) for closed in (3.0, 0.8))
  assert verdict.merit(near) > verdict.merit(far)
  far, near = (verdict.Gap('nll', 'NLL', closed, None) for closed in (3.0, 0.8))
  assert verdict.merit(near) < verdict.merit(far)


def test_the_comparison_names_the_leader_of_each_gap():
  first, second = gap_rows(), gap_rows()
  second[-1]['metrics'] |= {'gap_closed/nll': 0.75, 'gap_closed/acc': 0.4}
  for rows in (first, second):
    for r, bs in zip(rows, (0.2, 0.1, 0.3)):
      r['metrics']['bs'] = bs
    rows[-1]['metrics']['gap_closed/bs'] = -1.0
  lines = verdict.comparison([('one', first, first[-1]), ('two', second, second[-1])])
  assert 'one closes the gap best: accuracy 90 ± 12 %.' in lines
  assert 'two closes the gap best: NLL 75 %.' in lines
  assert 'No student closes any of the gap in Brier score.' in lines
  for rows, closed in ((first, 0.8), (second, 0.6)):
    rows[-1]['metrics']['gap_closed/acc'] = closed  # ± 0.125
  lines = verdict.comparison([('one', first, first[-1]), ('two', second, second[-1])])
  assert 'The students differ by less than the noise in accuracy.' in lines
  almost = verdict.Gap('nll', 'NLL', -1e-9, None)
  assert verdict.percent(almost) == '0'


def test_leaders_that_are_not_told_apart_are_named_together():
  def rival(label, closed, error):
    rows = gap_rows()
    rows[-1]['metrics'] |= {'gap_closed/nll': closed, 'gap_closed/acc': None}
    rows[-1] |= {'seeds': 3, 'se': {'gap_closed/nll': error}}
    return label, rows, rows[-1]

  lines = verdict.comparison([rival('A', 0.5, 0.05), rival('B', 0.79, 0.2), rival('C', 0.1, 0.05)])
  assert 'B closes the gap best: NLL 79 ± 20 % (within noise: A 50 ± 5 %).' in lines, lines
