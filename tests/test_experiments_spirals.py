"""The experiment on spirals from its command to its tables, in tiny."""

import json

import pytest

from ensdistill.report import columns
from experiments.spirals import collect, run

TINY = (
  '--teachers=1',
  '--seeds=1',
  '--config.network.hidden=(16,)',
  '--config.teacher.members=3',
  '--config.teacher.steps=60',
  '--config.student.steps=60',
  '--config.data.per_class=60',
  '--config.scores=2',
)


@pytest.mark.slow
def test_from_the_command_to_the_tables(tmp_path, monkeypatch):
  monkeypatch.setattr(run, 'PLAN', run.PLAN._replace(methods=('end2', 'kd')))
  monkeypatch.setattr(run.posterior, 'PER_CLASS', 60)
  for _ in range(2):  # the second time nothing is left to do
    assert run.main([f'--out={tmp_path}', *TINY]) == 0
  found = json.loads((tmp_path / 'posterior' / 'end2_spirals__t0_s0.json').read_text())
  assert [row['name'] for row in found['rows']] == ['student', 'member', 'ensemble-3']
  assert all(row['metrics']['kl'] > 0 for row in found['rows']) and found['not_run'] is None
  assert found['posterior']['acc'] > 0.9
  sizes = json.loads((tmp_path / 'sizes.json').read_text())
  assert [row['size'] for row in sizes] == [1, 2, 3]
  radii = json.loads((tmp_path / 'radii.json').read_text())
  assert radii[0]['radius'] == 100 and all(0 <= v <= 1 for v in radii[0]['auroc'].values())
  assert radii[3]['auroc']['posterior'] < 0.2  # beyond the arms, the classes lie apart
  contents = collect.files(tmp_path, tmp_path / 'results')
  text = contents[tmp_path / 'README.md']['spirals']
  assert 'The true posterior itself has accuracy' in text and '| ensemble-3 | 1 |' in text
  assert '| 10,000 | ' in text
  record = json.loads((tmp_path / 'results' / 'end2_spirals__t0_s0.json').read_text())
  shown = columns.present(record['rows'], collect.COLUMNS)
  missing = {c.key for c in collect.COLUMNS} - {c.key for c in shown}
  assert missing <= {'gap_closed/nll'}  # so short a training may leave no gap
