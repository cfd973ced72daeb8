"""The model card: valid front matter, what it says, and names that cannot break it."""

import json

import numpy as np
import pytest
import tiny

from ensdistill import data, export
from ensdistill.student import card

ROWS = [
  {'name': 'member', 'role': 'member', 'metrics': {'acc': 0.9, 'nll': 0.3, 'ece': float('nan')}},
  {'name': 'ensemble-2', 'role': 'ensemble', 'metrics': {'acc': 0.91, 'nll': 0.28}},
  {'name': 'ensemble-4', 'role': 'ensemble', 'metrics': {'acc': 0.95, 'nll': 0.2}},
  {
    'name': 'student',
    'role': 'student',
    'metrics': {'acc': 0.94, 'nll': 0.22, 'gap_closed/acc': 0.8, 'gap_closed/nll': None},
  },
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  plan = tiny.plan(tiny.config(), tiny.dataset(), tmp_path_factory.mktemp('runs'))
  export.save_all(plan, tiny.untrained(plan)[1], rows=ROWS)
  return plan.folder / 'student'


def front(text) -> dict:
  """Return the front matter, which is YAML with JSON values."""
  first, matter, _ = text.split('---\n', 2)
  assert first == ''
  pairs = [line.split(': ', 1) for line in matter.splitlines()]
  return {name: json.loads(value) for name, value in pairs}


def test_the_card_is_the_readme_of_the_folder(folder):
  student = export.load(folder)
  assert student.card == (folder / 'README.md').read_text()
  found = front(student.card)
  assert found['library_name'] == 'ensdistill' and found['pipeline_tag'] == 'image-classification'
  (entry,) = found['model-index']
  metrics = {m['type']: m['value'] for m in entry['results'][0]['metrics']}
  assert metrics == {'accuracy': 0.94, 'nll': 0.22}
  for part in (
    '| ensemble-4 | 95.00 | 0.2000 |',
    '| gap closed | 80 % | - |',
    'temperature ',
    'test examples',
    "ensdistill.load('student')",
    'fingerprint of the config',
  ):
    assert part in student.card, part
  assert 'ensemble-2' not in student.card


def test_a_share_far_outside_of_the_gap_has_no_digits():
  bad = ROWS[3] | {'metrics': {'acc': 0.1, 'gap_closed/acc': -17.0}}
  assert '| gap closed | < -100 % |' in card._quality([*ROWS[:3], bad])


def test_means_over_seeds_are_named():
  rows = [{**row, 'seeds': 3} for row in ROWS]
  names = [row['name'] for row in card.rows(rows, 'student')]
  assert names == ['member', 'ensemble-4', 'student (mean of 3 seeds)']
  assert card.rows(ROWS, 'student')[-1]['name'] == 'student'
  rows[-1] |= {'name': 'student-averaged', 'role': 'averaged'}
  assert card.rows(rows, 'student-averaged')[-1]['name'] == 'student-averaged (mean of 3 seeds)'


def test_a_table_of_regression_has_its_columns(tmp_path):
  x = np.random.default_rng(0).normal(size=(40, 2))
  dataset = data.from_arrays(x, x.sum(1), valid=20, columns=['a|b', '<b>'])
  plan = tiny.plan(tiny.config(), dataset, tmp_path)
  found = export.model(plan, tiny.untrained(plan)[1]).card
  assert front(found)['pipeline_tag'] == 'tabular-regression'
  assert '| a\\|b |' in found and '&lt;b&gt;' in found and 'student.quantiles' in found


def test_hostile_names_stay_on_their_line(folder):
  student = export.load(folder)
  spec = {
    **student.spec,
    'name': 'x\n---\n# y `z` \ud800',
    'data': '](http://x)\n',
    'classes': ['|', '<i>', 'c'],
  }
  found = card.text(spec, 10)
  assert front(found)['model-index'][0]['name'] == spec['name']
  body = found.split('---\n', 2)[2]
  assert '\n# y' not in body and '<i>' not in body and '](http' not in body.replace('\\](http', '')


def test_a_student_without_results_or_calibration(folder):
  student = export.load(folder)
  spec = {k: v for k, v in student.spec.items() if k not in ('results', 'calibration', 'made_by')}
  found = card.text(spec, 10)
  assert 'Not measured' in found and 'None: the student was stored without one' in found
  assert 'None: there were no validation' in card.text({**spec, 'calibration': None}, 10)
  assert 'model-index' not in front(found)
