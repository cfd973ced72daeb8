"""The UCI experiment: every protocol, resumable, into one table."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from ensdistill.sweep import records
from ensdistill.sweep.queue import Queue

FILE = pathlib.Path(__file__).parent.parent / 'experiments' / 'hydra' / 'uci.py'
TINY = {
  'network.hidden': (8,),
  'teacher.steps': 4,
  'teacher.members': 2,
  'teacher.batch_size': 16,
  'student.steps': 4,
  'student.batch_size': 16,
  'logs': 1,
  'scores': 1,
}


@pytest.fixture
def uci(monkeypatch):
  spec = importlib.util.spec_from_file_location('uci', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  make = module.recipes.make

  def tiny(*names):
    config = make(*names)
    config.update_from_flattened_dict(TINY)
    config.student.phases = 1
    return config

  monkeypatch.setattr(module.recipes, 'make', tiny)
  monkeypatch.setattr(module, 'PROTOCOLS', {'': ('hydra', 'nw'), 'paper': ('hydra',)})
  models = ('ensemble', 'member', 'hydra', 'nw')
  monkeypatch.setattr(module, 'MODELS', {m: module.MODELS[m] for m in models})
  return module


def data(folder, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(0, 1, (50, 2))
  mask = np.stack([rng.permutation(50) < 5 for _ in range(20)])
  np.savez(folder / 'boston.npz', x=x, y=x.sum(1) + 5, test_mask=np.packbits(mask, axis=1))


@pytest.mark.slow
def test_it_runs_resumes_and_writes_its_table(uci, tmp_path, monkeypatch, capsys):
  data(tmp_path)
  queue = Queue(tmp_path, [uci.job('boston', variant, str(tmp_path)) for variant in uci.PROTOCOLS])

  def work():
    """Run the jobs in this process, and return the table of their records."""
    for job in queue.jobs:
      own = [f'--protocol={job.kind.variant}', f'--folder={queue.run_folder(job)}']
      uci.main(['boston', f'--data={tmp_path}', *own])
      records.write(queue.result(job), uci.record(queue, job, 1.0))
    (content,) = uci.files(tmp_path, tmp_path / 'results').values()
    return content['uci']

  ours, paper = map(queue.run_folder, queue.jobs)
  row = uci.rows.of_repeats

  def broken(name, *repeats, **fields):
    return 1 / 0 if name == 'nw' else row(name, *repeats, **fields)

  monkeypatch.setattr(uci.rows, 'of_repeats', broken)
  with pytest.raises(ZeroDivisionError):
    work()
  monkeypatch.setattr(uci.rows, 'of_repeats', row)
  found = json.loads((ours / 'rows.json').read_text())
  assert list(found['rows']) == ['member', 'ensemble', 'hydra']
  capsys.readouterr()
  table = work()
  said = capsys.readouterr().out
  assert said.index('Normal-Wishart') < said.index('Hydra')
  assert '| **boston**, 20 splits |' in table and '| ensemble | ' in table
  hydra = next(line for line in table.splitlines() if line.startswith('| Hydra'))
  assert hydra.split(' | ')[6:8] == ['2.835', '2.484'] and hydra.count('±') == 4
  rows = json.loads((paper / 'rows.json').read_text())['rows']
  assert rows['ensemble']['seeds'] == 10 and rows['ensemble']['name'] == 'ensemble-2'
  roles = {model: (row['role'], row['size']) for model, row in rows.items()}
  assert roles == {'member': ('member', 1), 'ensemble': ('ensemble', 2), 'hydra': ('student', 2)}
  assert not list(tmp_path.glob('runs/**/checkpoints'))
  copy = tmp_path / 'copy'
  records.write(copy / 'ours.json', records.read(queue.result(queue.jobs[0])))
  (content,) = uci.files(tmp_path, copy).values()
  assert 'The control was not run on: boston.' in content['uci']

  def again(*_):
    raise AssertionError('trained again')

  with monkeypatch.context() as patch:
    patch.setattr(uci.splits, 'teachers', again)
    assert work() == table
  with monkeypatch.context() as patch:  # students alone
    patch.setitem(TINY, 'student.steps', 5)
    patch.setattr(uci.splits, 'member_scores', again)
    capsys.readouterr()
    work()
    assert capsys.readouterr().out.count('its settings have changed') == 3
  settings = pytest.raises(SystemExit, match='made with other settings or data')
  with monkeypatch.context() as patch, settings:
    patch.setitem(TINY, 'teacher.steps', 5)
    work()
  data(tmp_path, seed=1)
  with settings:
    work()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['bosten'], "unknown set 'bosten': did you mean 'boston'?"),
    (['--protocol=paper'], 'give one SET and --folder'),
    (['boston', 'power', '--protocol=', '--folder=a'], 'give one SET and --folder'),
    (['boston', '--protocol='], 'give one SET and --folder'),
  ],
)
def test_wrong_arguments_are_one_line(uci, capsys, arguments, message):
  with pytest.raises(SystemExit) as end:
    uci.main([*arguments, '--data=here'])
  assert end.value.code == 2 and message in capsys.readouterr().err


def test_the_table_says_where_hydra_lies(uci):
  def done(**nll):
    metrics = {'agreement_kl': 0.5, 'rmse': 2.0, 'coverage_90': 0.875}
    nll = {model: np.add(value, [0, 0.1]).tolist() for model, value in nll.items()}
    return {'': {'rows': {model: {'se': {}, 'metrics': metrics} for model in nll}, 'nll': nll}}

  found = {
    'boston': done(ensemble=1.0, hydra=1.5, member=2.0),
    'energy': done(ensemble=1.0, hydra=2.5, member=2.0),
    'power': done(ensemble=1.0, hydra=0.5, member=2.0),
  }
  found['power']['']['nll']['hydra'] = [0.0, 2.0]
  first, energy, power = uci.verdict(found)
  assert first == "Hydra's NLL lies between the ensemble's and one member's on 1 of 3: boston."
  assert energy == (
    '- energy (ensemble 1.050, Hydra 2.550, one member 2.050): Hydra is worse than one member by '
    '0.500 ± 0.000, paired over the splits: its RMSE is 2 against 2, its 90 % intervals hold '
    '87.5 % against 87.5 %, its mean KL from the ensemble is 0.500 nats.'
  )
  assert power.endswith(
    'Hydra is better than the ensemble by 0.050 ± 0.950, paired over the splits, which is within '
    'noise.'
  )


def test_a_set_of_other_settings_is_marked(uci):
  config = json.loads(
    json.dumps(uci.identity.decisive(uci.configuration('hydra', 'boston', '', '')))
  )
  done = {'data': 'boston', 'variant': '', 'config': config}
  assert uci.changed(done) == {} and uci._marks({'boston': {'': done}}) == []
  done['config'] = config | {'student.optimizer.decay': 0.3, 'data.content': 'another'}
  assert uci.changed(done) == {'student.optimizer.decay': (0.3, 0.0)}
  (note, _) = uci._marks({'boston': {'': done}})
  assert note == '† Made with `student.optimizer.decay=0.3` (now 0.0), to be run again.'
