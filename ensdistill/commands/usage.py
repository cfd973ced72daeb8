"""The ends of a command: wrong usage, errors and signals, each with one line and an exit code."""

import argparse
import contextlib
import functools
import itertools
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from ensdistill import names, stopping
from ensdistill.processes import ending

OVERWRITE = '--overwrite'  # of train: starts a run's folder afresh


class Parser(argparse.ArgumentParser):
  """Argument parser whose errors are one line, with the nearest known flag."""

  def __init__(self, **settings):
    super().__init__(allow_abbrev=False, **settings)

  def parse_args(self, arguments: Sequence[str] | None = None):  # type: ignore[override]
    """Return the parsed arguments; an unknown flag is reported before a missing one."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for argument in itertools.takewhile('--'.__ne__, arguments):  # no flags follow '--'
      flag = argument.partition('=')[0]
      if flag.startswith('--') and flag not in self._option_string_actions:
        self.error(f'unknown argument {flag!r}{names.meant(flag, self._option_string_actions)}')
    return super().parse_args(arguments)

  def error(self, message: str) -> NoReturn:
    """Print the error in one line, and exit."""
    unknown = message.partition('unrecognized arguments: ')[2]
    if unknown:
      message = f'unknown argument {unknown.split()[0]!r}.'
    fail(2, f'{message} (--help lists the flags)')


def add_imports(parser: argparse.ArgumentParser) -> None:
  """Add the flag of a student's own parts."""
  parser.add_argument(
    '--import',
    action='append',
    default=[],
    dest='imports',
    metavar='FILE',
    help="a file or module with the student's own parts (repeatable)",
  )


def student_folder(path: str) -> pathlib.Path:
  """Return a student's folder: the one given, or the folder `student` of a run's."""
  folder = pathlib.Path(path)
  return folder / 'student' if (folder / 'student').is_dir() else folder


def loaded_student(path: str, imports: Sequence[str] = ()):
  """Return the student of a folder, or of a run's folder; end the command if it cannot be read."""
  from ensdistill import export

  try:
    return export.load(student_folder(path), imports)
  except (ValueError, OSError) as error:
    fail(1, reason(error))


def fail(code: int, message: str) -> NoReturn:
  """Print one line on standard error, and exit with the code.

  Where several processes share a run, all of them end.
  """
  ending.leave(code, ' '.join(message.split()))
  with contextlib.suppress(OSError):  # standard error may lie on a disk that is full
    print(f'ensdistill: {" ".join(message.split())}', file=sys.stderr, flush=True)
  sys.exit(code)


def reason(error: BaseException) -> str:
  """Return an error as text; for an error of the system, the file and the cause."""
  if isinstance(error, OSError) and error.filename is not None and error.strerror:
    separator = ' ' if error.strerror.startswith('cannot ') else ': '
    return f'{error.filename}{separator}{error.strerror}'
  return str(error)


def again(arguments: Sequence[str], program: str) -> str:
  """Return the command line that continues a run, as it was typed; `program` if that is unknown."""
  kept = [argument for argument in arguments if argument != OVERWRITE]
  typed, size = sys.orig_argv, len(arguments)
  head = program.split()
  if size and typed[-size:] == list(arguments):
    head = typed[:-size]
    if len(head) > 1 and pathlib.Path(head[1]).name == 'ensdistill':  # the installed command
      head = ['ensdistill', *head[2:]]
  return shlex.join([*head, *kept])


def stoppable(command: Callable) -> Callable:
  """Return the command that SIGTERM and SIGINT end with one line and exit code 143 or 130."""

  @functools.wraps(command)
  def run(*arguments, **settings):
    with stopping.listening():
      try:
        result = command(*arguments, **settings)
        stopping.check('it had finished')
        return result
      except stopping.Stopped as stop:
        fail(stop.code, f'stopped by {stop.name}: {stop.saved or "the same command starts again"}')

  return run


@contextlib.contextmanager
def pipe_may_close() -> Iterator[None]:
  """Exit with code 1, without a message, if the reader of the output has ended, as `head` does."""
  try:
    try:
      yield
    finally:
      sys.stdout.flush()
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


@contextlib.contextmanager
def memory_in_one_line() -> Iterator[None]:
  """Turn the error of a host or a device that runs out of memory into one line, and exit code 1."""
  try:
    yield
  except (MemoryError, RuntimeError) as error:
    from ensdistill import memory

    line = memory.exhausted(error)
    if line is None:
      raise
    fail(1, line)
