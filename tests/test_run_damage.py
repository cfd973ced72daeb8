"""Damage to a finished run: every file is named, nothing is silently wrong; it is made again."""

import json
import os
import random
import shutil

import pytest
import tiny

import ensdistill
from benchmarks.injected import damaged
from benchmarks.injected.damaged import Lines, damages, sealed_files
from ensdistill import export, resume, run
from ensdistill import teacher as teacher_lib
from ensdistill.config import folder, identity
from ensdistill.storage import seals

CONFIG = tiny.config(teacher__members=2, student__targets='stored')


def plan_in(root):
  plan = tiny.plan(CONFIG, tiny.dataset(), root / 'run')
  folder.take(plan.folder, plan.config)
  return plan


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The folder of a finished run and its teacher."""
  root = tmp_path_factory.mktemp('finished')
  run.run(plan_in(root))
  return root


@pytest.fixture
def copy(finished, tmp_path):
  shutil.copytree(finished, tmp_path / 'copy')
  return tmp_path / 'copy'


def read_all(root):
  return damaged.read_all(root / 'run', root / 'teachers')


def assert_named(root, flips, cuts):
  """Damage every file in turn: what is read is right or missing, and the file is named."""
  rng, (good, said) = random.Random(0), read_all(root)
  assert not said, said
  for name in sealed_files(root):
    path, content = root / name, (root / name).read_bytes()
    for changed in damages(content, rng, flips, cuts):
      path.unlink() if changed is None else path.write_bytes(changed)
      wrong = damaged.judged(root / 'run', root / 'teachers', good, name)
      assert not wrong, f'{name}, {"removed" if changed is None else len(changed)}: {wrong}'
      path.write_bytes(content)


def test_what_a_run_leaves_is_sealed(finished):
  names = [str(name) for name in sealed_files(finished)]
  assert len(names) == 2 + 2 + 4 + 2 + 2 * 3 + 3, names
  for name in names:
    if name.endswith('.json'):
      content = json.loads((finished / name).read_text())
      wanted = {'fingerprints', 'versions', 'commit'}
      assert name == 'run/config.json' or wanted <= content['made_by'].keys(), name


def test_damage_to_every_file_is_named(copy):
  assert_named(copy, flips=1, cuts=0)


@pytest.mark.slow
def test_much_damage_to_every_file_is_named(copy):
  assert_named(copy, flips=40, cuts=12)


def comparable(root) -> dict:
  """Return results.json without measured times, and with the digest of the weights."""
  results = json.loads((root / 'run' / 'results.json').read_text())
  del results['timings']
  for row in results['rows']:
    keys = [key for key in row['metrics'] if not key.startswith('ms_per_example')]
    row['metrics'] = {key: row['metrics'][key] for key in keys}
  weights = (root / 'run' / 'student' / 'weights.safetensors').read_bytes()
  return results | {'weights': weights}


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def test_an_untouched_run_is_finished(copy, capsys, monkeypatch):
  monkeypatch.setattr(run, '_stages', lambda *_: pytest.fail('made again'))
  run.run(plan_in(copy))
  out, err = capsys.readouterr()
  assert 'already finished' in out and not err


def test_a_student_is_written_again_from_its_weights(copy, capsys, monkeypatch):
  monkeypatch.setattr(run, '_stages', lambda *_: pytest.fail('made again'))
  student = copy / 'run' / 'student'
  for name in ('model.stablehlo', 'config.json'):
    (student / name).unlink()
    run.run(plan_in(copy))
    out, err = capsys.readouterr()
    assert 'already finished' in out and f'{name} is damaged' in err and err.count('\n') == 1
    export.load(student)


def test_a_removed_page_is_written_again(copy, capsys, monkeypatch):
  monkeypatch.setattr(run, '_stages', lambda *_: pytest.fail('made again'))
  (copy / 'run' / 'report.html').unlink()
  run.run(plan_in(copy))
  assert 'report.html is missing: it is written again' in capsys.readouterr().err
  assert 'student' in (copy / 'run' / 'report.html').read_text()


def test_damaged_results_are_made_again_from_the_stored_student(copy, finished, capsys):
  flip(copy / 'run' / 'results.json')
  shutil.rmtree(copy / 'teachers')
  run.run(plan_in(copy))
  err = capsys.readouterr().err
  assert 'results.json is damaged' in err and 'student: found in' in err
  assert '2 member(s) that this run had are missing' in err and 'trained again' in err
  assert comparable(copy) == comparable(finished)


@pytest.mark.slow
@pytest.mark.parametrize('damage', [lambda s: shutil.rmtree(s), lambda s: flip(s / 'student.seal')])
def test_a_lost_student_is_trained_again_bit_for_bit(copy, finished, capsys, damage):
  damage(copy / 'run' / 'student')
  run.run(plan_in(copy))
  err = capsys.readouterr().err
  assert '2 of 2 members found' in err and 'student: found' not in err
  assert comparable(copy) == comparable(finished)


def test_a_run_with_results_of_other_settings_or_no_rows_is_not_finished(copy):
  plan = plan_in(copy)
  path = plan.folder / 'results.json'
  content = json.loads(path.read_text())
  seals.write_json(path, content | {'config_fingerprint': 'other'})
  assert resume.results(plan) is None
  seals.write_json(path, {k: v for k, v in content.items() if k != 'timings'})
  assert resume.results(plan) is None


def test_a_student_of_other_settings_is_not_taken(copy):
  plan = plan_in(copy)
  student = copy / 'run' / 'student'
  names = ('weights.safetensors', 'model.stablehlo', 'config.json')
  assert export.stored(plan) is not None
  seals.write(student, 'student', {n: (student / n).read_bytes() for n in names}, settings='other')
  assert export.stored(plan) is None and resume.results(plan) is None


def test_a_lost_configuration_does_not_open_the_folder_to_other_settings(copy):
  (copy / 'run' / 'config.json').unlink()
  other = tiny.plan(tiny.config(teacher__members=3), tiny.dataset(), copy / 'run')
  with pytest.raises(run.UsageError, match='results.json is of other settings'):
    run.run(other)


def test_a_damaged_configuration_is_refused_with_the_remedy(copy, capsys):
  path = copy / 'run' / 'config.json'
  flip(path)
  with pytest.raises(ensdistill.Damaged, match='config.json is damaged .*: remove .*config.json'):
    plan_in(copy)
  path.unlink()
  path.with_name('config.json.seal').unlink()
  plan = plan_in(copy)
  assert resume.results(plan) and seals.read_json(path, remedy='') == identity.to_json(CONFIG)


def test_folders_made_before_seals_are_read_with_one_line_each(copy, capsys):
  for seal in copy.rglob('*.seal'):
    seal.unlink()
  for path in copy.rglob('*.json'):
    content = json.loads(path.read_text())
    content.pop('made_by', None)
    path.write_text(json.dumps(content))
  plan = plan_in(copy)
  assert resume.results(plan)
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and 'results.json has no seal' in lines[0], lines
  writer = Lines()
  teacher_lib.obtain(plan, writer)
  assert sum('has no seal' in line for line in writer.lines) == 1


class Killed(BaseException):
  """Raised at a file operation."""


@pytest.mark.slow
def test_a_kill_at_any_replaced_file_ends_with_the_same_results(finished, tmp_path, monkeypatch):
  """A kill before the operation, then a run to the end; the numbers of operations are drawn."""
  count, replace = [0, 10**9], os.replace

  def counted(*arguments):
    count[0] += 1
    if count[0] > count[1]:
      raise Killed
    replace(*arguments)

  monkeypatch.setattr(os, 'replace', counted)
  run.run(plan_in(tmp_path / 'whole'))
  whole = count[0]
  assert whole > 30
  for number in random.Random(0).sample(range(whole), 12):
    root = tmp_path / str(number)
    count[:] = 0, number
    with pytest.raises(Killed):
      run.run(plan_in(root))
    count[:] = 0, 10**9
    run.run(plan_in(root))
    assert comparable(root) == comparable(finished), number
    assert not read_all(root)[1], number
