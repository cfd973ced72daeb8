"""Wrong usage of a command: one line on standard error, and exit code 2."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from ensdistill import names


class Parser(argparse.ArgumentParser):
  """Argument parser whose errors are one line, with the nearest known flag."""

  def __init__(self, **settings):
    super().__init__(allow_abbrev=False, **settings)

  def parse_args(self, arguments: Sequence[str] | None = None):  # type: ignore[override]
    """Return the parsed arguments; an unknown flag is reported before a missing one."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for argument in arguments:
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


def fail(code: int, message: str) -> NoReturn:
  """Print one line on standard error, and exit with the code."""
  print(f'ensdistill: {" ".join(message.split())}', file=sys.stderr)
  sys.exit(code)


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
