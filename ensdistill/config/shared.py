"""A run that several processes share: what must be the same in all, and fit their devices."""

import functools
import json
import os
import pathlib
import secrets
import socket
import time
from collections.abc import Callable

from ensdistill import mesh, names, processes
from ensdistill.config import identity
from ensdistill.config.build import Plan
from ensdistill.storage import safe

_LATE = 75.0  # seconds: network file systems cache a missing folder for up to a minute
_OWN = (  # settings that may differ between processes
  'workdir',
  'cache',
  'imports',
  'sinks',
  'watchdog_minutes',
  'data.dir',
  'data.workers',
  'teacher.dir',
  'teacher.outputs',  # teacher.content is the same
  'teacher.source',
)


def settle_order(
  config, streams: bool, folder: pathlib.Path | None, say: Callable[[str], None]
) -> None:
  """Set the order in which members see the examples of a stream: teacher.order.

  On several hosts they share one order by default, so that every image is decoded once instead of
  once a member. A folder that holds such a run keeps its order on any number of hosts.
  teacher.order='each' gives every member its own order everywhere.
  """
  section = config.teacher
  order = 'own' if section.order == 'each' else section.order
  if section.order == 'own' and streams and not (section.outputs or section.source):
    before = processes.agreed(lambda: _order_of(folder), 'order') if folder else None
    if before and (before == 'shared') != (processes.hosts() > 1):
      order = before
      say(f'teacher.order={before!r}: {folder} holds a run that began so')
    elif processes.hosts() > 1:
      order = 'shared'
      say(
        "teacher.order='shared': on several hosts the members of a teacher see a stream in one "
        "order, so that an image is decoded once; teacher.order='each' gives each its own"
      )
  with config.unlocked():
    section.order = order


def _order_of(folder: pathlib.Path) -> str | None:
  """Return the order of the run that a folder holds; None without one."""
  try:
    order = json.loads((folder / 'config.json').read_text())['teacher']['order']
  except (OSError, ValueError, KeyError, TypeError):
    return None
  return order if order in ('own', 'shared') else None


def check(plan: Plan) -> None:
  """Refuse processes with other settings or data than the first, and batches that do not fit."""
  if processes.shared():
    check_settings(plan.config)
    check_devices(plan)


def check_settings(config) -> None:
  """Refuse processes with other settings than the first.

  Without this, they would disagree on what comes next.
  """
  if not processes.shared():
    return
  every = names.flatten(identity.to_json(config))
  settings = {name: value for name, value in every.items() if name not in _OWN}
  changed = identity.differences(processes.agreed(lambda: settings, 'settings'), settings)
  for number, found in enumerate(processes.each(changed, 'same settings')):
    if found:
      raise ValueError(
        f'process {number} has other settings than process 0 ({"; ".join(found[:3])}): give all '
        'the same command, and the same data'
      )


def check_devices(plan: Plan) -> None:
  """Refuse batch sizes and numbers of networks that leave devices of a shared run idle."""
  config = plan.config
  stages = [('student', config.student, plan.student.microbatches, config.seeds)]
  if not plan.given:
    count = config.teacher.members
    together = min(config.teacher.together or count, count)
    sizes = {together, count % together} - {0}
    stages += [('teacher', config.teacher, plan.teacher.microbatches, n) for n in sorted(sizes)]
  for name, section, parts, size in stages:
    try:
      mesh.make(size, section.batch_size // parts)
    except ValueError as error:
      microbatches = f' with {name}.microbatches={parts}, and so' if parts > 1 else ':'
      raise ValueError(f'{name}.batch_size={section.batch_size}{microbatches} {error}') from None


def check_folders(plan: Plan) -> None:
  """Refuse folders that are not the same on all hosts of a run."""
  if not processes.shared():
    return
  for folder in (plan.folder, plan.teacher_root):
    token = processes.agreed(functools.partial(_leave_token, folder), 'token')
    path = folder / f'.{token}.part'
    seen = processes.each(_sees(path), 'token seen')
    if processes.first():
      path.unlink(missing_ok=True)
    if not all(seen):
      raise ValueError(
        f'{folder} is not the same folder on all hosts: process {seen.index(False)} does not see '
        f'what process 0 on {processes.host(0)} writes there. Choose one on a disk that all hosts '
        'share: --workdir, teacher.dir'
      )


def _sees(path: pathlib.Path) -> bool:
  """Wait for a file; return whether it exists. Network file systems show new files late."""
  until = time.monotonic() + _LATE
  while not path.exists():
    if time.monotonic() > until:
      return False
    time.sleep(0.1)
  return True


def _leave_token(folder: pathlib.Path) -> str:
  """Write a file of a random name into a folder; return the name."""
  safe.make_folder(folder)
  token = f'token-{socket.gethostname()}-{secrets.token_hex(8)}.{os.getpid()}-0'
  safe.write_atomic(folder / f'.{token}.part', token)
  return token
