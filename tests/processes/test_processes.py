"""Several processes share a run: the numbers of one process, and one end for all."""

import contextlib
import functools
import json
import signal
import socket
import time
import zipfile

import pytest
import several
import tiny

from ensdistill import processes
from ensdistill.data import DataError
from ensdistill.processes import agreement, ending
from ensdistill.processes import group as groups
from ensdistill.processes.group import Group, State
from ensdistill.run import UsageError
from ensdistill.stopping import Stopped
from ensdistill.storage import seals
from ensdistill.training.clock import NonFinite

LONG = {'teacher__steps': 100_000, 'logs': 1000, 'scores': 1, 'checkpoint_seconds': 1000}


@pytest.fixture
def start(tmp_path):
  """Start runs, none of which outlives the test."""
  started = []

  def run(name='run', *arguments, **settings):
    started.append(several.Run(tmp_path / name, *arguments, **settings))
    return started[-1]

  yield run
  for run in started:
    run.kill()


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
  """Two processes of which one was killed, and the ends of this run: on both, and on one."""
  folder = tmp_path_factory.mktemp('pair')
  killed = several.Run(folder / 'two')
  killed.when(lambda: killed.logged('teacher', 4), 1, signal.SIGKILL)
  killed.codes(60)
  yield killed
  killed.kill()


def test_a_killed_process_ends_all_with_a_line_that_names_it(pair):
  first, second = pair.codes()
  assert (first, second) == (1, -signal.SIGKILL)
  text = pair.text(0)
  assert 'ensdistill: process 1 of 2 on ' in text.splitlines()[-1]
  assert f'died: no sign of life for {several.HEARTBEAT} seconds' in text
  assert 'Traceback' not in text and 'Check failure' not in text


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_process_with_two_devices(pair, start):
  again = several.Run(pair.folder).ends()
  assert 'continues at step' in again.text(0) and not again.text(1)
  several.assert_same(again, start('one', devices=2).ends())


def test_errors_of_the_first_process_are_raised_in_all():
  errors = [
    FileNotFoundError(2, 'No such file or directory', '/a/b'),
    DataError('a: b'),
    UsageError('x=1 must be 2'),
    Stopped(15, 'saved'),
    NonFinite('the loss is not finite', stage='teacher'),
    ValueError('plain'),
  ]
  for error in errors:
    back = agreement._error_of(agreement._as_json(error))
    assert type(back) is type(error) and back.args == error.args and str(back) == str(error)
  foreign = {'module': 'os', 'name': 'system', 'text': 'x', 'arguments': ['true']}
  assert type(agreement._error_of(foreign)) is RuntimeError


def test_errors_that_cannot_be_made_again_are_handled_as_their_kind(tmp_path):
  """`main` catches ValueError and OSError: they must not become others on the way."""
  damaged = seals.Damaged(tmp_path / 'config.json', 'is damaged', 'remove it')
  back = agreement._error_of(agreement._as_json(damaged))
  assert type(back) is seals.Damaged and str(back) == str(damaged) and back.path == damaged.path
  with pytest.raises(ValueError, match='Expecting value') as error:
    json.loads('{"a": ')
  back = agreement._error_of(agreement._as_json(error.value))
  assert type(back) is ValueError and str(back) == str(error.value)
  with pytest.raises(UnicodeDecodeError) as wrong:
    b'\xff'.decode()
  assert isinstance(agreement._error_of(agreement._as_json(wrong.value)), ValueError)
  assert type(agreement._error_of(agreement._as_json(zipfile.BadZipFile('x')))) is RuntimeError


def test_a_lone_process_agrees_with_itself_and_leaves_nothing_behind():
  assert processes.agreed(lambda: (1, 2)) == (1, 2)  # no JSON
  assert processes.each('a', 'x') == ['a'] and processes.count() == processes.hosts() == 1
  ending.leave(3, 'a lone process goes on')
  ending.finish()
  assert processes.first() and not processes.alone() and not processes.shared()


@pytest.fixture
def two(monkeypatch):
  """Two processes with one service, as their groups; the state of one of them can be taken."""
  service = several.Service()
  groups = [Group(service, number, 2, heartbeat=10.0) for number in range(2)]
  monkeypatch.setattr(State, 'group', None)
  return groups


def as_one(group, function, *arguments):
  State.group = group
  return function(*arguments)


def test_processes_that_work_separately_wait_for_nobody(two):
  for group in two:
    State.group = group
    with pytest.raises(OSError), processes.separately():
      assert processes.agreed(lambda: 5, 'x') == 5 and processes.each('a', 'y') == ['a']
      with processes.separately(), processes.locked(contextlib.nullcontext()):
        pass
      assert processes.each('a', 'y') == ['a'] and not processes.alone()
      raise OSError
    assert not group.client.keys and not group.separate


def test_an_error_of_the_first_process_is_told_in_its_name(two, monkeypatch):
  """The other processes leave it to the first one, whose host the error is about."""
  first, second = two
  ended, slept = [], []
  monkeypatch.setattr(ending, 'end', lambda group, *how: ended.append(how))
  monkeypatch.setattr(ending.time, 'sleep', slept.append)

  def fails():
    raise OSError(28, 'No space left on device', '/full')

  for group in two:
    try:
      try:
        as_one(group, processes.agreed, fails, 'x')
      except OSError as error:
        raise UsageError('in other words') from error
    except UsageError as error:
      ending.leave(2, 'in other words', error)
  assert ended == [(0, 2, 'process 0 of 2: in other words')] * 2
  assert slept == [ending._ACKNOWLEDGED]
  ending.leave(1, 'its own')
  assert ended[-1] == (1, 1, 'process 1 of 2: its own') and len(slept) == 1


def test_keys_that_all_have_read_are_removed(two):
  first, second = two
  for number in range(1, groups._BLOCK):
    assert as_one(first, processes.agreed, functools.partial(int, number), 'x') == number
    assert as_one(second, processes.agreed, lambda: 'unused', 'x') == number
  second.set('block/1/1', '')  # it has read them all
  first.next_key('agreed')
  assert sorted(first.client.keys) == ['ensdistill/block/1/0', 'ensdistill/block/1/1']


def test_processes_at_different_kinds_of_agreements_do_not_wait_for_ever(two):
  first, second = two
  first.set(f'{first.next_key("each")}/000000', '["x", 1]')
  with pytest.raises(RuntimeError, match="waits for 'agreed/0/1', while another process is at"):
    as_one(second, processes.agreed, int, 'x')
  as_one(first, processes.agreed, int, 'x')
  with pytest.raises(RuntimeError, match="waits for 'each/0/2/000000', while another"):
    as_one(second, processes.each, 1, 'x')


@pytest.mark.slow
@pytest.mark.parametrize(
  ('recipe', 'settings'),
  [
    ('kd_digits', {'perturb__name': 'tdiv'}),
    ('hydra_digits', {'student__phases': 2, 'perturb__name': 'conf_ods', 'seeds': 2}),
    ('latentbe_tdiv_sdiv_digits', {}),
    ('end2_digits', {'perturb__name': 'gaussian', 'data__stream': 'on', 'teacher__members': 3}),
  ],
)
def test_two_processes_equal_one_with_two_devices(start, recipe, settings):
  two = start('two', recipe=recipe, **settings).ends()
  several.assert_same(two, start('one', recipe=recipe, devices=2, **settings).ends())


@pytest.mark.slow
def test_four_processes_are_near_one_with_four_devices_and_near_one(start):
  settings = {'teacher__members': 4, 'teacher__steps': 20, 'student__steps': 20}
  four, one, single = (
    start(name, **settings, **how).ends().weights()
    for name, how in (('four', {'count': 4}), ('one', {'devices': 4}), ('single', {'devices': 1}))
  )
  assert tiny.largest_difference(four, one) < 1e-5
  assert tiny.largest_difference(four, single) < 1e-5


@pytest.mark.slow
def test_a_run_whose_first_process_was_killed_goes_on_in_one_process(start):
  killed = start('two')
  killed.when(lambda: killed.logged('student', 4), 0, signal.SIGKILL)
  began = time.monotonic()
  assert killed.codes(60) == [-signal.SIGKILL, 1] and time.monotonic() - began < 60
  line = killed.text(1).splitlines()[-1]
  assert line.startswith('ensdistill: process 0 of 2 on ') and 'died' in line
  assert 'Traceback' not in killed.text(1)
  alone = several.Run(killed.folder, devices=2).ends()
  assert 'student: continues at step' in alone.text()
  several.assert_same(alone, start('one', devices=2).ends())


@pytest.mark.slow
@pytest.mark.parametrize('number', [0, 1])
def test_sigterm_to_one_saves_the_same_step_in_all(start, number):
  run = start('two', **LONG)
  run.when(lambda: run.logged('teacher', 100), number, signal.SIGTERM)
  assert run.codes() == [143, 143]
  text = run.text(0)
  assert 'stopped by SIGTERM: teacher is saved at step ' in text and 'continue with: ' in text
  assert '--process_id=0' in text and not run.text(1)
  saved = list((run.folder / 'runs' / 'teachers').glob('*/checkpoints/*/*.json'))
  assert any(f'step {path.stem} of' in text for path in saved)


@pytest.mark.slow
def test_an_exception_in_one_process_ends_all_and_is_told(start, tmp_path):
  (tmp_path / 'broken.py').write_text(
    'import jax\n'
    'from ensdistill import perturb\n'
    'def broken(*, rate: float = 0.5):\n'
    '  def apply(key, x, teacher, student, family, space):\n'
    '    if jax.process_index() == 1 and len(x) > 2:\n'  # not when it is tried on two examples
    "      raise KeyError('only here')\n"
    '    return x\n'
    "  return perturb.Perturbation('broken', apply)\n"
    "perturb.PERTURBATIONS['broken'] = broken\n"
  )
  run = start('two', f'--import={tmp_path / "broken.py"}', perturb__name='broken')
  assert run.codes() == [1, 1], run.text()
  for number in (0, 1):
    line = run.text(number).splitlines()[-1]
    assert line.startswith('ensdistill: process 1 of 2 on ') and 'only here' in line, run.text()


@pytest.mark.slow
def test_a_mistake_is_refused_by_all_with_one_line_each(start):
  run = start('two', teacher__batch_size=15, teacher__members=3)
  assert run.codes() == [2, 2]
  for number in (0, 1):
    (line,) = run.text(number).splitlines()
    assert 'teacher.batch_size=15: a batch of 15 and 3 network(s) leave 1 of 2 devices idle' in line
    assert line.endswith('set batch_size to 14 or 16')


@pytest.mark.slow
def test_processes_with_other_settings_are_refused(start, tmp_path):
  path = tmp_path / 'own.py'
  path.write_text(
    'from ensdistill.config import recipes\n'
    'import os\n\n'
    'def get_config():\n'
    "  config = recipes.make('kd', 'digits')\n"
    "  config.student.optimizer.rate = 0.5 + int(os.environ['SLURM_PROCID'])\n"
    '  return config\n'
  )
  port = {'JAX_COORDINATOR_PORT': str(several.free_port())}
  run = start('two', recipe=str(path), variables=[slurm(i, 2) | port for i in range(2)])
  assert run.codes() == [2, 2], run.text()
  said = 'process 1 has other settings than process 0 (student.optimizer.rate: 0.5 -> 1.5)'
  assert said in run.text(0) and said in run.text(1)


def slurm(number: int, count: int) -> dict[str, str]:
  """Return the variables of a task that srun starts."""
  return {
    'SLURM_JOB_ID': '4242',
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_NTASKS': str(count),
    'SLURM_PROCID': str(number),
    'SLURM_LOCALID': str(number),
  }


def open_mpi(number: int, count: int) -> dict[str, str]:
  """Return the variables of a process that mpirun starts."""
  return {
    'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://127.0.0.1:34911',
    'OMPI_COMM_WORLD_SIZE': str(count),
    'OMPI_COMM_WORLD_RANK': str(number),
    'OMPI_COMM_WORLD_LOCAL_RANK': str(number),
  }


def open_mpi_5(number: int, count: int) -> dict[str, str]:
  """Return the variables of a process that mpirun of Open MPI 5 starts on this host."""
  return {
    'PMIX_NAMESPACE': f'prterun-{socket.gethostname()}-4242@1',
    'OMPI_COMM_WORLD_SIZE': str(count),
    'OMPI_COMM_WORLD_RANK': str(number),
    'OMPI_COMM_WORLD_LOCAL_RANK': str(number),
    'OMPI_COMM_WORLD_LOCAL_SIZE': str(count),
  }


@pytest.mark.slow
@pytest.mark.parametrize('cluster', [slurm, open_mpi, open_mpi_5])
def test_slurm_and_open_mpi_are_found_by_their_variables(start, cluster):
  port = {'JAX_COORDINATOR_PORT': str(several.free_port())}
  run = start('two', variables=[cluster(i, 2) | port for i in range(2)]).ends()
  assert '2 x cpu of 2 processes' in ' '.join(run.text(0).split())
