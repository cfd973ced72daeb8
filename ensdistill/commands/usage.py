"""Wrong usage of a command: one line on standard error, and exit code 2."""

import argparse
import difflib
import sys
from collections.abc import Iterable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
  """Argument parser whose errors are one line, with the nearest known flag."""

  def error(self, message: str) -> NoReturn:
    """Print the error in one line, and exit."""
    unknown = message.partition('unrecognized arguments: ')[2]
    if unknown:
      flag = unknown.split()[0].partition('=')[0]
      message = f'unknown argument {flag!r}{meant(flag, self._option_string_actions)}'
    fail(2, f'{message} (--help lists the flags)')


def fail(code: int, message: str) -> NoReturn:
  """Print one line on standard error, and exit with the code."""
  print(f'ensdistill: {" ".join(message.split())}', file=sys.stderr)
  sys.exit(code)


def meant(name: str, known: Iterable[str]) -> str:
  """Return ': did you mean ...?' with the nearest known name, or '.' if none is near."""
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  return f': did you mean {near[0]!r}?' if near else '.'
