"""The collector of the experiments' tables, and the tables that stand in the documents."""

import json

import pytest
import sweeps

from ensdistill.sweep import records
from experiments import collect


def stored(folder):
  """Write the records of a sweep into folder/results."""
  for made in sweeps.sweep():
    name = f'{made["method"]}__t{made["teacher"]}_s{made["seed"]}.json'
    records.write(folder / 'results' / name, made)


def test_every_table_shows_its_results():
  assert not collect.stale(), 'run python -m experiments.collect'


def test_tables_are_written_between_their_marks(tmp_path):
  folder = tmp_path / 'experiments' / 'mine'
  stored(folder)
  readme = folder / 'README.md'
  readme.write_text('# Mine\n\n<!-- mine: measured -->\nstale\n<!-- mine: end -->\n\nThe rest.\n')
  (content,) = collect.stale(tmp_path).values()
  assert content.startswith('# Mine\n') and content.endswith('\nThe rest.\n')
  assert '| hydra | 3 | 6 |' in content and 'stale' not in content
  readme.write_text(content)
  assert not collect.stale(tmp_path)
  readme.write_text('# Mine\n')
  with pytest.raises(ValueError, match='lacks the marks <!-- mine: measured -->'):
    collect.stale(tmp_path)


@pytest.mark.parametrize('name', sorted({*collect.COLLECTORS} - {*collect.PLANNED}))
def test_a_listed_experiment_without_results_is_an_error(tmp_path, name):
  (tmp_path / 'experiments' / name).mkdir(parents=True)
  with pytest.raises(ValueError, match=f'{name} has no results'):
    collect.stale(tmp_path)


def test_digits(tmp_path):
  folder = tmp_path / 'experiments' / 'digits'
  stored(folder)
  marks = '<!-- digits: measured -->\n<!-- digits: end -->\n'
  for path in (tmp_path / 'README.md', folder / 'README.md'):
    path.write_text(marks)
  page = tmp_path / 'docs' / 'papers' / 'hydra.md'
  page.parent.mkdir(parents=True)
  page.write_text(marks)
  (tmp_path / 'configs').mkdir()
  columns = {'measured': 'not run yet', 'published': '', 'hardware': '', 'time': ''}
  measured = {'kd_digits': columns, 'hydra_digits': columns, 'hydra_cifar10': columns}
  (tmp_path / 'configs' / 'measured.json').write_text(json.dumps(measured))
  (tmp_path / 'configs' / 'README.md').write_text('')
  found = collect.stale(tmp_path)
  text = found[tmp_path / 'README.md']
  assert text == found[folder / 'README.md']
  assert '3 teachers of four ResNet-8 (150 steps), 2 students of each' in text
  assert 'standard errors of the paired difference: `kd`, `hydra`. Not better: none.' in text
  lines = [line for line in found[page].splitlines() if line.startswith('| ')]
  labels = {line.split(' | ')[0].removeprefix('| ') for line in lines}
  assert labels == {'model', '---', 'ensemble of 4', 'hydra', 'kd'}
  assert 'ECE' not in found[page] and '3 teachers of four ResNet-8 and 2 students' in found[page]
  new = json.loads(found[tmp_path / 'configs' / 'measured.json'])
  assert new['hydra_cifar10'] == columns
  assert new['hydra_digits']['measured'].endswith('one member 2.0000 ± 0.5774 (3 teachers, 6 runs)')
  for path, content in found.items():
    path.write_text(content)
  assert not collect.stale(tmp_path)
