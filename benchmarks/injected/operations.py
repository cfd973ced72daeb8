"""File operations of a process: counted, and made to fail or to kill it.

Python reports every opened, created, renamed and removed path to audit hooks, also those of
Orbax. Two calls report nothing and are wrapped: os.fsync, and writes into files that ensdistill
opens itself. What TensorStore writes in C++ is seen by its Python neighbours alone.
"""

import builtins
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable

CHANGES = (
  'os.rename', 'os.mkdir', 'os.remove', 'os.rmdir', 'os.truncate', 'os.link', 'os.symlink',
  'shutil.rmtree',
)  # fmt: skip


class Operations:
  """Calls `then(event, path)` at the operation `at` below a folder, and at all later ones if set.

  at: counted from 0; None counts only. under: part of the paths that fail, '' for all.
  """

  def __init__(
    self, folder, *, at: int | None = None, then: Callable | None = None, later=False, under=''
  ):
    self._folder = str(pathlib.Path(folder).absolute())
    self._at, self._then, self._later, self._under = at, then, later, under
    self._lock = threading.RLock()
    self._inside = threading.local()
    self.seen: list[tuple[str, str]] = []

  def install(self) -> 'Operations':
    """Watch this process from now on."""
    sys.addaudithook(self._audit)
    fsync = os.fsync

    def watched(descriptor):
      self.happens('os.fsync', _name(descriptor))
      fsync(descriptor)

    os.fsync = watched
    self._wrap_writes()
    return self

  def _wrap_writes(self) -> None:
    from ensdistill.logs import events, writers
    from ensdistill.storage import safe

    def opened(path, mode='r', *arguments, **settings):
      file = builtins.open(path, mode, *arguments, **settings)
      return _Watched(file, self) if set(mode) & set('wax+') else file

    for module in (safe, writers, events):
      vars(module)['open'] = opened

  def _audit(self, event, arguments) -> None:
    if event == 'open':
      path, _, flags = arguments
      if not isinstance(path, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        self.happens(event, os.fsdecode(path))
    elif event in CHANGES:
      path, below = arguments[0], arguments[-1]
      if event in ('os.remove', 'os.rmdir') and isinstance(below, int) and below >= 0:
        path = os.path.join(_name(below), os.fsdecode(path))
      if not isinstance(path, int):
        self.happens(event, os.fsdecode(path))

  def happens(self, event: str, path: str) -> None:
    """Note an operation; act if its turn has come."""
    path = os.path.join(os.getcwd(), path)
    if not path.startswith(self._folder) or self._under not in path:
      return
    if getattr(self._inside, 'acts', False):
      return
    with self._lock:
      number = len(self.seen)
      self.seen.append((event, path))
    if (
      self._at is None
      or self._then is None
      or number < self._at
      or (number > self._at and not self._later)
    ):
      return
    self._inside.acts = True
    try:
      self._then(event, path)
    finally:
      self._inside.acts = False


class _Watched:
  """A file whose writes happen in two halves, so that a fault may lie between them."""

  def __init__(self, file, operations: Operations):
    self._file, self._operations = file, operations

  def write(self, content) -> int:
    half = len(content) // 2
    self._file.write(content[:half])
    self._file.flush()
    self._operations.happens('write', self._file.name)
    self._file.write(content[half:])
    return len(content)

  def __getattr__(self, name):
    return getattr(self._file, name)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._file.close()


def _name(descriptor: int) -> str:
  try:
    return os.readlink(f'/proc/self/fd/{descriptor}')
  except OSError:
    return ''


def killing(folder, at: int) -> Callable[[], Operations]:
  """Return what makes a process kill itself before an operation below a folder."""

  def kill(event, path):
    _note(folder, event, path)
    os.kill(os.getpid(), signal.SIGKILL)

  return lambda: Operations(folder / 'runs', at=at, then=kill).install()


def failing(folder, at: int, code: int, *, later=False, under='') -> Callable[[], Operations]:
  """Return what makes an operation below a folder fail, and all later ones if set."""

  def fail(event, path):
    _note(folder, event, path)
    raise OSError(code, os.strerror(code), path)

  return lambda: Operations(folder / 'runs', at=at, then=fail, later=later, under=under).install()


def counting(folder) -> Callable[[], Operations]:
  """Return what writes the operations of a process into FOLDER/operations.txt, as they happen."""

  def note(event, path):
    _note(folder, event, path)

  return lambda: Operations(folder / 'runs', at=0, then=note, later=True).install()


def _note(folder, event: str, path: str) -> None:
  line = f'{event} {os.path.relpath(path, folder)}\n'
  descriptor = os.open(folder / 'operations.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.write(descriptor, line.encode())
  os.close(descriptor)


def noted(folder) -> list[str]:
  """Return the operations that were noted: 'event path', relative to the folder."""
  path = folder / 'operations.txt'
  return path.read_text().splitlines() if path.exists() else []
