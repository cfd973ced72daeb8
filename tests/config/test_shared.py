"""What processes that share a run check: the order of streams, their devices, their folders."""

import json
import types

import pytest
import tiny

from ensdistill import mesh, processes, resume
from ensdistill.config import shared
from ensdistill.logs import writers
from ensdistill.storage import seals


def settled(tmp_path, *, order='own', streams=True, hosts=2, before=None, monkeypatch):
  """Return the order that is written into the configuration, and what is said."""
  monkeypatch.setattr(processes, 'hosts', lambda: hosts)
  if before:
    (tmp_path / 'config.json').write_text(json.dumps({'teacher': {'order': before}}))
  config, said = tiny.config(teacher__order=order), []
  shared.settle_order(config, streams, tmp_path, said.append)
  return config.teacher.order, said


@pytest.mark.parametrize(
  ('case', 'order', 'lines'),
  [
    (dict(), 'shared', 1),
    (dict(hosts=1), 'own', 0),
    (dict(streams=False), 'own', 0),
    (dict(order='each'), 'own', 0),
    (dict(order='shared'), 'shared', 0),
    (dict(hosts=1, before='shared'), 'shared', 1),  # it began on several hosts
    (dict(hosts=1, before='own'), 'own', 0),
    (dict(before='own'), 'own', 1),  # it began on one host
    (dict(before='shared'), 'shared', 1),
    (dict(before='own', order='shared'), 'shared', 0),
    (dict(hosts=1, before='shared', streams=False), 'own', 0),
  ],
)
def test_streams_have_one_order_on_several_hosts(tmp_path, monkeypatch, case, order, lines):
  found, said = settled(tmp_path, monkeypatch=monkeypatch, **case)
  assert found == order and len(said) == lines
  assert all(f'teacher.order={order!r}' in line for line in said)


@pytest.mark.parametrize(
  ('setting', 'value', 'is_refused'),
  [('on_nan', 'skip', True), ('seed', 7, True), ('cache', 'x', False)],
)
def test_settings_that_decide_what_a_process_does_must_be_the_same(
  monkeypatch, setting, value, is_refused
):
  compared, others = [], {setting: value} if is_refused else {}

  def agreed(function, what):
    compared.append(function())
    return compared[0] | others

  monkeypatch.setattr(processes, 'shared', lambda: True)
  monkeypatch.setattr(processes, 'agreed', agreed)
  monkeypatch.setattr(processes, 'each', lambda value, what: [[], value])
  monkeypatch.setattr(shared, 'check_devices', lambda plan: None)
  own = tiny.plan(tiny.config(), tiny.dataset())
  if is_refused:
    with pytest.raises(ValueError, match=f'process 1 has other settings .*{setting}: {value!r} ->'):
      shared.check(own)
  else:
    shared.check(own)
    assert setting not in compared[0]


def test_a_student_that_another_host_does_not_see_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(processes, 'agreed', lambda function, what: True)
  own = tiny.plan(tiny.config(), tiny.dataset(), tmp_path)
  with pytest.raises(seals.Damaged, match='student is not what process 0 reads: use a folder that'):
    resume.student(own, writers.Silent())


def plan(tmp_path):
  return types.SimpleNamespace(folder=tmp_path / 'run', teacher_root=tmp_path / 'teachers')


@pytest.mark.parametrize('seen', [[True, True], [True, False]])
def test_folders_that_are_not_the_same_on_all_hosts_are_refused(tmp_path, monkeypatch, seen):
  monkeypatch.setattr(processes, 'shared', lambda: True)
  monkeypatch.setattr(processes, 'each', lambda value, what: [value and own for own in seen])
  if all(seen):
    shared.check_folders(plan(tmp_path))
  else:
    with pytest.raises(ValueError, match='process 1 does not see what process 0') as error:
      shared.check_folders(plan(tmp_path))
    assert str(tmp_path / 'run') in str(error.value)
  assert not list(tmp_path.rglob('.token*'))


def test_a_missing_file_is_waited_for(tmp_path, monkeypatch):
  monkeypatch.setattr(shared, '_LATE', 0.2)
  assert not shared._sees(tmp_path / 'nothing')
  assert shared._sees(tmp_path)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    (dict(teacher__batch_size=15), 'teacher.batch_size=15: a batch of 15 and 3'),
    (dict(student__batch_size=18), 'student.batch_size=18: a batch of 18'),
    (
      dict(student__batch_size=24, student__microbatches=4),
      'student.batch_size=24 with student.microbatches=4, and so a batch of 6',
    ),
  ],
)
def test_batches_that_leave_devices_idle_are_refused_by_their_setting(
  tmp_path, monkeypatch, changes, said
):
  def make(size, batch):
    if batch % 4:
      raise ValueError(f'a batch of {batch} and {size} network(s) leave devices idle')

  monkeypatch.setattr(mesh, 'make', make)
  config = tiny.config(**{'teacher__batch_size': 16, 'student__batch_size': 16, **changes})
  own = tiny.plan(config, tiny.dataset())
  with pytest.raises(ValueError, match='leave devices idle') as error:
    shared.check_devices(own)
  assert str(error.value).startswith(said)
