"""What can be wrong with data; a wrong setting is a ValueError instead."""

import re

_ADDRESS = re.compile(r' <_io\.\w+ object at 0x[0-9a-f]+>')


class DataError(Exception):
  """The data are missing, damaged or mislabelled."""


class MissingData(DataError, FileNotFoundError):
  """A file or a prepared data set does not exist; the message says how to get it."""


class InputsOnly(DataError):
  """The set has inputs but nothing to train on: no labels, or no training part."""


def without_address(text: str) -> str:
  """Return a decoder's text without the address of a buffer, which differs every time."""
  return _ADDRESS.sub('', text)
