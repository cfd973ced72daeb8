"""Pictures of several runs."""

import numpy as np
import pytest
from reports import row, run_of

from ensdistill.report import columns, figures, pages, tables
from ensdistill.report.figures import joint


def known(found, error):
  return found | {
    'test_se': {key: error for key in found['metrics'] if key in ('acc', 'nll', 'bs')}
  }


@pytest.fixture
def group():
  """Four runs of one teacher: students b and c are better than a, and d has one better metric."""

  def run(name, acc, nll, bs, params, ms):
    cost = {'ms_per_example/spread': 0.1, 'flops': params}
    rows = [
      row('member', acc=0.90, nll=0.3, bs=0.2, params=100.0, ms_per_example=1.0, **cost),
      row('ensemble-2', acc=0.91, nll=0.28, bs=0.19, params=200.0),
      row('ensemble-4', acc=0.94, nll=0.2, bs=0.1, params=400.0, ms_per_example=4.0, **cost),
      row('student', acc=acc, nll=nll, bs=bs, params=params, ms_per_example=ms, **cost),
    ]
    rows = [known(r, 0.004) for r in rows]
    rows[1] |= {'subsets': 6, 'spread': {'acc': 0.01}}
    return run_of(f'{name}_digits', rows, versions={'processor': 'x'})

  return [
    run('a', 0.90, 0.30, 0.20, 100.0, 1.0),
    run('b', 0.94, 0.20, 0.10, 100.0, 1.3),
    run('c', 0.94, 0.202, 0.101, 300.0, 3.0),
    run('d', 0.90, 0.30, 0.15, 120.0, 1.1),
  ]


def test_the_joint_picture_has_every_model_and_the_front(group):
  rows = tables.joined(group)
  figure = figures.JOINT['cost'][0](rows)
  assert len(figure.axes) == 4  # accuracy and NLL, parameters and time
  for ax in figure.axes[::2]:
    texts = {text.get_text() for text in ax.texts}
    assert texts == {'one member', '2', 'ensemble of 4', *(f'{n}_digits' for n in 'abcd')}
  (front,) = [line for line in figure.axes[0].lines if line.get_drawstyle() == 'steps-post']
  assert (
    front.get_xydata()[1].tolist() == [100, 94] and len(front.get_xdata()) == 3
  )  # b is the best
  low, high = figure.axes[0].get_ylim()
  assert 85 < low < high < 100  # the front ends outside, and does not widen the picture
  times = {text.get_text(): text.xy[0] for text in figure.axes[1].texts}
  one = [times[name] for name in ('a_digits', 'b_digits', 'one member')]  # one architecture
  assert len(set(one)) == 3 and np.ptp(np.log(one)) < 0.1  # side by side


def test_ranks_are_shared_where_nothing_is_told_apart(group):
  rows = tables.joined(group)
  students = [r for r in rows if r.student]
  acc = next(c for c in columns.QUALITY if c.key == 'acc')
  bs = next(c for c in columns.QUALITY if c.key == 'bs')
  assert [joint._rank(r, students, acc) for r in students] == [3.5, 1.5, 1.5, 3.5]
  assert [joint._rank(r, students, bs) for r in students] == [4, 1.5, 1.5, 3]
  figure = joint.ranks(rows)
  (ax,) = figure.axes
  assert [t.get_text() for t in ax.get_yticklabels()] == [f'{n}_digits' for n in 'bcda']
  means = [float(t.get_text()) for t in ax.texts]
  assert [t.xy for t in ax.texts] == [(1, i) for i in range(4)]  # on the right
  np.testing.assert_allclose(means, [1.5, 1.5, 10 / 3, 11 / 3], atol=0.06)
  assert joint.ranks(rows[:-2]) is None  # two students


def test_pictures_of_a_comparison_have_short_names(group):
  found = pages._joint(group)
  assert [picture['title'] for picture in found] == [
    'quality against cost',
    'ranks of the students',
  ]
  assert all(picture['narrow'] and len(picture['caption']) > 60 for picture in found)
