"""`evaluate --label-distributions`: student, member and ensemble against votes for each example."""

import json
import shutil

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tiny

import ensdistill
from ensdistill import data, distillation, export, teacher
from ensdistill.commands import evaluate
from ensdistill.config import identity
from ensdistill.logs import writers

QUICK = ('--shift=none', '--ood=none')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Return the folder of a run with a stored teacher, its data set, and the file of the votes."""
  root = tmp_path_factory.mktemp('runs')
  config = tiny.config(data__name='digits', data__limit=60, student__kind='single')
  dataset = data.load('digits', limit=60)
  plan = tiny.plan(config, dataset, root / 'run')
  members = teacher.obtain(plan, writers.Silent())
  _, distilled = tiny.untrained(plan)
  fingerprints = {'teacher': members.fingerprint, 'data': dataset.fingerprint}
  made_by = identity.made_by(config, **fingerprints)
  export.save_all(plan, distillation.Distilled(plan.student, distilled.variables), made_by)
  votes = np.random.default_rng(0).dirichlet(np.ones(10), 997)
  np.save(root / 'votes.npy', votes.astype(np.float32))
  return root, dataset, votes, members


def found_by(root, tmp_path, *flags):
  out = tmp_path / 'found.json'
  labels = f'--label-distributions={root / "votes.npy"}'
  evaluate.main([f'--student={root / "run"}', labels, *QUICK, *flags, f'--out={out}'])
  return json.loads(out.read_text(), parse_constant=pytest.fail)['label_distributions']


def expected(log_p, q):
  kl = scipy.stats.entropy(q, np.exp(log_p), axis=1)
  own = scipy.stats.entropy(q, axis=1)
  rank = scipy.stats.spearmanr(scipy.stats.entropy(np.exp(log_p), axis=1), own).statistic
  return {'cross_entropy': (kl + own).mean(), 'kl': kl.mean(), 'entropy_rank': rank}


def test_student_member_and_ensemble_by_hand(run, tmp_path, capsys):
  root, dataset, votes, members = run
  found = found_by(root, tmp_path)
  rows = {row['name']: row for row in found['rows']}
  assert list(rows) == ['student', 'member', 'ensemble-3'] and found['not_run'] is None
  q = votes[dataset.rows['test'].rows]  # 60 of the 997 rows
  assert len(q) == 60 and found['entropy'] == pytest.approx(scipy.stats.entropy(q, axis=1).mean())
  x = dataset.test.x
  student = ensdistill.load(root / 'run' / 'student').predict(x).probs
  each = scipy.special.log_softmax(
    np.asarray(members.freeze(members.variables).outputs(x), np.float64), -1
  )
  together = scipy.special.logsumexp(each, 1) - np.log(3)
  several = [expected(each[:, m], q) for m in range(3)]
  member = {key: np.mean([one[key] for one in several]) for key in several[0]}
  for name, wanted in (
    ('student', expected(np.log(student.astype(np.float64)), q)),
    ('member', member),
    ('ensemble-3', expected(together, q)),
  ):
    assert rows[name]['metrics'] == pytest.approx(wanted, rel=1e-4), name
  spread = np.std([one['kl'] for one in several], ddof=1) / 3**0.5
  assert rows['member']['se']['kl'] == pytest.approx(spread, rel=1e-3)
  printed = capsys.readouterr().out
  assert 'against votes.npy' in printed and f'{member["kl"]:.4f} ±' in printed


def test_a_teacher_is_found_by_its_folder_and_by_the_folder_of_several(run, tmp_path):
  root, _, _, members = run
  moved = tmp_path / 'elsewhere' / 'run'
  shutil.copytree(root / 'run', moved)
  alone = found_by(root, tmp_path, f'--student={moved}')
  assert 'no teacher.json' in alone['not_run'] and '--teacher=DIR' in alone['not_run']
  assert [row['name'] for row in alone['rows']] == ['student', 'member', 'ensemble']
  assert set(alone['rows'][1]['metrics'].values()) == {None}
  for given in (members.folder, members.folder.parent):
    again = found_by(root, tmp_path, f'--student={moved}', f'--teacher={given}')
    assert again['not_run'] is None and again['rows'][0] == alone['rows'][0]


@pytest.mark.parametrize(
  'change, flags, code, message',
  [
    (lambda q: q[:500], [], 2, '(997, 10), one row per test example of digits'),
    (lambda q: q * 51, [], 2, 'row 0 sums to 51'),
    (lambda q: q - 0.5, [], 2, 'values below 0'),
    (lambda q: q, ['--teacher=DIR'], 2, '--teacher=DIR: DIR'),
    (None, [], 1, 'is not a readable .npy file'),
  ],
)
def test_errors_are_one_line(run, tmp_path, capsys, change, flags, code, message):
  file = tmp_path / 'votes.npy'
  file.write_text('votes') if change is None else np.save(file, change(run[2]))
  flags = [flag.replace('DIR', str(tmp_path)) for flag in flags]
  with pytest.raises(SystemExit) as stopped:
    evaluate.main([f'--student={run[0] / "run"}', f'--label-distributions={file}', *QUICK, *flags])
  error = capsys.readouterr().err
  assert stopped.value.code == code and error.count('\n') == 1
  assert message.replace('DIR', str(tmp_path)) in error


def test_a_teacher_without_label_distributions_is_a_mistake(run, capsys):
  with pytest.raises(SystemExit) as stopped:
    evaluate.main([f'--student={run[0] / "run"}', '--teacher=x'])
  assert stopped.value.code == 2 and '--label-distributions' in capsys.readouterr().err
