"""Paths that users give: local, and text in UTF-8."""

import os
import re

# pathlib.Path joins two slashes to one, which leaves the known schemes.
_REMOTE = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*):/(?:/|(?<=gs:/)|(?<=s3:/)|(?<=hdfs:/))')


def check(what: str, path: str | os.PathLike | None) -> None:
  """Raise ValueError for a path that is not local, or whose name is not one line of valid UTF-8.

  `what` names the setting or argument in the error.
  """
  text = os.fspath(path or '')
  remote = _REMOTE.match(text)
  if remote:
    raise ValueError(
      f'{what}={text!r} is not a local path: files are read and written on local disks only '
      f'(a rename there is atomic, and locks hold). Mount {remote[1]}:// as a folder to read from '
      'it, or copy the files'
    )
  if '\n' in text or '\r' in text:
    raise ValueError(f'{what}={text!r} holds a line break: name it without')
  try:
    text.encode()
  except UnicodeEncodeError:
    raise ValueError(
      f'{what}={ascii(text)} is not valid UTF-8, so reports could not name it: rename it'
    ) from None
