"""Rows of writes that fail, full disks, read-only folders and memory that is used up."""

import errno
import os
import resource

from benchmarks.injected import operations
from benchmarks.injected.cases import Case, Row, continued, names_a_path
from benchmarks.injected.interrupted import count
from benchmarks.injected.runs import Ended, Small

CODES = (errno.ENOSPC, errno.EIO)
# Parts of paths that may be read-only, and whether the run needs to write there.
FOLDERS = (
  'runs/a', 'runs/a/tb', 'runs/a/figures', 'runs/a/checkpoints', 'runs/a/student',
  'runs/a/metrics.jsonl', 'runs/a/report.html', 'runs/a/results.json', 'runs/a/config.json',
  'runs/a/lock', 'runs/teachers', '/checkpoints/members', '/lock', 'teacher.json', 'member_000',
  'member_001', 'outputs_',
)  # fmt: skip
READ_ONLY = (errno.EROFS, errno.EACCES)
LARGEST = 400_000  # bytes; larger than every file of the run
LIMITS = 60
# Functions at which the memory is used up: (module, name).
STAGES = (
  ('ensdistill.data', 'load'),
  ('ensdistill.config.build', 'plan'),
  ('ensdistill.teacher', 'obtain'),
  ('ensdistill.teacher', '_save'),
  ('ensdistill.training.stage', 'train'),
  ('ensdistill.training.stage', 'fit'),
  ('ensdistill.storage.packing', 'pack'),
  ('ensdistill.distillation', 'distil'),
  ('ensdistill.compare', 'compare'),
  ('ensdistill.evaluation.measure', 'scored'),
  ('ensdistill.export', 'save_all'),
  ('ensdistill.export', 'stablehlo'),
  ('ensdistill.report', 'collect'),
  ('ensdistill.report', 'write'),
  ('ensdistill.report.results', 'write_pages'),
  ('ensdistill.report.results', 'draw'),
)


def refused(small: Small, folder, ended: Ended, cause: str, again: bool = True) -> Case:
  """Judge a run whose write failed: one line with file and cause; then it continues."""
  noted = operations.noted(folder)
  about = noted[0] if noted else ''
  if ended.wrong:
    return Case('no single line', False, f'{about}: {ended.wrong}')
  if ended.code == 0:
    found = small.different(folder)
    if not noted:
      return Case('had ended before', not found, str(found[:2]))
    if not found:
      return Case('the run does without', True, about)
    if all(difference.startswith('/rest') for difference in found):
      return Case('could not be removed, and stays without harm', True, about)
    return continued(small, folder, 'the run does without; made good by the next', about)
  (line,) = ended.lines
  if cause not in line:
    return Case('without the cause', False, f'{about}: {line}')
  if about and not names_a_path(ended, folder, about.split(' ', 1)[1]):
    return Case('without the file', False, f'{about}: {line}')
  if not again:
    return Case('file and cause in one line', True, about)
  return continued(small, folder, 'file and cause in one line; continues', about)


def write(small: Small, number: int, folder) -> Case:
  """Let one file operation fail, with one cause and then the other; every fourth continues."""
  second, at = divmod(number, count(small))
  code = CODES[(at + second) % 2]
  ended = small.run(folder, before=operations.failing(folder, at, code))
  return refused(small, folder, ended, os.strerror(code), again=at % 4 == 0)


def full(small: Small, number: int, folder) -> Case:
  """Limit the size of files: the first write beyond it fails, in any library."""
  limit = int(100 * (LARGEST / 100) ** (number / (LIMITS - 1)))

  def before():
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

  ended = small.run(folder, before=before)
  case = refused(small, folder, ended, os.strerror(errno.EFBIG))
  if case.outcome == 'had ended before':
    case = case._replace(outcome='no file is that large')
  return case._replace(about=f'{limit} bytes {case.about}')


def read_only(small: Small, number: int, folder) -> Case:
  """Refuse every change below one folder, or of one file, from the first on."""
  under, code = FOLDERS[number // 2], READ_ONLY[number % 2]
  before = operations.failing(folder, 0, code, later=True, under=under)
  case = refused(small, folder, small.run(folder, before=before), os.strerror(code))
  if case.outcome == 'had ended before':
    return case._replace(outcome='nothing is written there', about=under)
  return case


def memory(small: Small, number: int, folder) -> Case:
  """Use up the memory at one stage, in Python or on a device."""
  module, name = STAGES[number // 2]

  def fails(*arguments, **settings):
    (folder / 'operations.txt').touch()
    if number % 2 == 0:
      raise MemoryError
    import jax

    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 64 bytes.')

  def before():
    import importlib

    setattr(importlib.import_module(module), name, fails)

  ended, about = small.run(folder, before=before), f'{module}.{name}'
  if not (folder / 'operations.txt').exists():
    return Case('never called', False, about)
  if ended.wrong or ended.code != 1 or 'memory' not in ended.lines[0]:
    return Case('no single line', False, f'{about}: {ended.wrong or ended.text[-300:]}')
  return continued(small, folder, 'one line; continues', about)


def _twice(small: Small) -> int:
  return 2 * count(small)


def _number(value: int):
  def planned(small: Small) -> int:
    del small
    return value

  return planned


ROWS = {
  'write': Row('ENOSPC and EIO at every file operation of a run', _twice, write),
  'full': Row('writes beyond a limit (RLIMIT_FSIZE), 100 bytes to 400 kB', _number(LIMITS), full),
  'readonly': Row('read-only folders and files', _number(2 * len(FOLDERS)), read_only),
  'memory': Row('MemoryError, RESOURCE_EXHAUSTED at every stage', _number(2 * len(STAGES)), memory),
}
