"""Pack the folder of a sweep into files of at most 16 MiB, and unpack them elsewhere.

  python -m experiments.carry pack SWEEP PARTS      # SWEEP, e.g. experiments/full
  python -m experiments.carry unpack PARTS SWEEP

PARTS gets manifest.json, with the SHA-256 of every part, and part_00000, part_00001, ... The parts
that have not changed since the last packing stay as they are. Everything that continues a sweep is
carried: results, the queue, teachers, runs and their checkpoints. A sweep that runs is refused.
"""

import argparse
import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import sys
import tarfile
from collections.abc import Iterator

from ensdistill.storage import safe

LARGEST = 2**24
CARRIED = ('queue', 'results', 'runs', 'smoke', 'teachers')


class Parts(io.RawIOBase):
  """A stream that is written into files of at most `size` bytes; equal files are left alone."""

  def __init__(self, folder: pathlib.Path, size: int):
    self.folder, self.size = folder, size
    self.buffer = bytearray()
    self.digests: list[str] = []

  def writable(self) -> bool:
    return True

  def write(self, content) -> int:
    """Take bytes, and write every part that is full."""
    self.buffer += content
    while len(self.buffer) >= self.size:
      self._part(bytes(self.buffer[: self.size]))
      del self.buffer[: self.size]
    return len(content)

  def finish(self) -> list[str]:
    """Write the last part; return the digests of all."""
    if self.buffer:
      self._part(bytes(self.buffer))
    return self.digests

  def _part(self, content: bytes) -> None:
    path, digest = self.folder / name(len(self.digests)), hashlib.sha256(content).hexdigest()
    if not path.exists() or safe.sha256(path) != digest:
      safe.write_atomic(path, content)
    self.digests.append(digest)


def name(number: int) -> str:
  """Return the name of a part."""
  return f'part_{number:05d}'


def pack(sweep: pathlib.Path, parts: pathlib.Path, size: int = LARGEST) -> int:
  """Write the parts and then their manifest; return the number of parts."""
  running = [lock for lock in sweep.rglob('*.lock') if safe.is_locked(lock)]
  if running:
    raise ValueError(f'{running[0]} is held: stop the sweep first')
  parts.mkdir(parents=True, exist_ok=True)
  stream = Parts(parts, size)
  with tarfile.open(fileobj=stream, mode='w|', format=tarfile.PAX_FORMAT) as archive:
    for path in _files(sweep):
      archive.add(path, str(path.relative_to(sweep)), recursive=False, filter=_plain)
  digests = stream.finish()
  safe.write_atomic(parts / 'manifest.json', json.dumps({'parts': digests}, indent=1) + '\n')
  for path in parts.glob('part_*'):
    if path.name not in {name(i) for i in range(len(digests))}:
      path.unlink()
  return len(digests)


def _files(sweep: pathlib.Path) -> list[pathlib.Path]:
  """Return files and empty folders in order; teachers first, because they seldom change."""
  found = []
  for folder in sorted(CARRIED, reverse=True):
    for path in sorted((sweep / folder).rglob('*')):
      empty = path.is_dir() and not any(path.iterdir())
      if (path.is_file() or empty) and not path.name.endswith('.lock') and path.name != 'lock':
        found.append(path)
  return found


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
  """Leave out what differs between machines."""
  info.uid = info.gid = 0
  info.uname = info.gname = ''
  info.mtime = int(info.mtime)
  return info


def unpack(parts: pathlib.Path, sweep: pathlib.Path) -> int:
  """Check all parts, and then write the folder of the sweep; return the number of its files.

  What the sweep's folder holds already is replaced as a whole, so nothing of two states mixes.
  """
  try:
    digests = json.loads((parts / 'manifest.json').read_text())['parts']
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{parts}/manifest.json cannot be read ({error}): copy it again') from None
  for number, digest in enumerate(digests):
    path = parts / name(number)
    if not path.is_file() or safe.sha256(path) != digest:
      raise ValueError(f'{path} is missing or damaged: copy it again')
  fresh = sweep / '.unpacked'
  shutil.rmtree(fresh, ignore_errors=True)
  fresh.mkdir(parents=True)
  stream = io.BufferedReader(_Joined(_contents(parts, len(digests))))
  with tarfile.open(fileobj=stream, mode='r|') as archive:
    archive.extractall(fresh, filter='data')
  for folder in CARRIED:
    shutil.rmtree(sweep / folder, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
      (fresh / folder).rename(sweep / folder)
  count = sum(path.is_file() for f in CARRIED for path in (sweep / f).rglob('*'))
  shutil.rmtree(fresh)
  return count


def _contents(parts: pathlib.Path, count: int) -> Iterator[bytes]:
  for number in range(count):
    yield (parts / name(number)).read_bytes()


class _Joined(io.RawIOBase):
  """The contents of the parts as one stream."""

  def __init__(self, contents: Iterator[bytes]):
    self.contents, self.rest = contents, b''

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    if not self.rest:
      self.rest = next(self.contents, b'')
    size = min(len(buffer), len(self.rest))
    buffer[:size], self.rest = self.rest[:size], self.rest[size:]
    return size


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('what', choices=('pack', 'unpack'))
  parser.add_argument('source', type=pathlib.Path, metavar='FROM')
  parser.add_argument('target', type=pathlib.Path, metavar='TO')
  given = parser.parse_args(arguments)
  carry = pack if given.what == 'pack' else unpack
  try:
    count = carry(given.source, given.target)
  except ValueError as error:
    sys.exit(str(error))
  print(f'{given.target}: {count} {"parts" if given.what == "pack" else "files"}')


if __name__ == '__main__':
  main()
