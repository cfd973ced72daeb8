"""The row of inputs that libFuzzer finds by their coverage, by means of atheris.

The row needs atheris (`pip install atheris`). Without it, the row is left out.
"""

import contextlib
import importlib.util
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable

from benchmarks.injected.cases import Case, Row
from benchmarks.injected.runs import Small, forked

SECONDS = 20  # for each reader
_LENGTH = 4096


def available() -> bool:
  """Return whether atheris is installed."""
  return importlib.util.find_spec('atheris') is not None


def _readers() -> dict[str, Callable[[bytes], None]]:
  """Return the readers of bytes; every one raises nothing but documented errors."""
  from ensdistill import data
  from ensdistill.data.images import decode
  from ensdistill.storage import safe, seals

  path = pathlib.Path(tempfile.mkdtemp(), 'input')

  def data_set(kind, **options):
    def read(content):
      path.write_bytes(content)
      with contextlib.suppress(ValueError, data.DataError):
        data.load(f'{kind}:{path}', **options)

    return read

  def parsed(function, errors=ValueError):
    def read(content):
      with contextlib.suppress(errors):
        function(content)

    return read

  def image(content):  # decoders raise errors of many kinds, which the caller expects
    decode.opened(content).load()

  return {
    'npz': data_set('npz'),
    'csv': data_set('csv', target='y'),
    'tensors': parsed(safe.parse_tensors),
    'seal': parsed(seals.unseal),
    'json': parsed(seals.parse),
    'image': parsed(image, errors=Exception),
  }


NAMES = ('npz', 'csv', 'tensors', 'seal', 'json', 'image')


def fuzz(small: Small, number: int, folder) -> Case:
  """Fuzz one reader for a while, in a forked process."""
  ended = forked(lambda: _fuzz(NAMES[number], small, folder), folder)
  name = NAMES[number]
  found = re.findall(r'^#(\d+)\s', ended.text, re.M)
  if ended.code or not found or 'ERROR' in ended.text:
    return Case('another error', False, f'{name}: {ended.text[-400:]}')
  return Case(f'{name}: {int(found[-1]):,} inputs', True, name)


def _fuzz(name: str, small: Small, folder) -> None:
  import atheris

  corpus = folder / 'corpus'
  corpus.mkdir()
  for number, content in enumerate(_first(name, small)):
    (corpus / str(number)).write_bytes(content)
  for module in [m for m in sys.modules if m.startswith(('ensdistill.data', 'ensdistill.storage'))]:
    del sys.modules[module]  # imported again below, with counters of their branches
  with atheris.instrument_imports(include=['ensdistill.data', 'ensdistill.storage']):
    read = _readers()[name]
  limits = [f'-max_total_time={SECONDS}', f'-max_len={_LENGTH}', '-rss_limit_mb=6000']
  atheris.Setup([sys.argv[0], *limits, '-timeout=20', str(corpus)], read)
  atheris.Fuzz()


def _first(name: str, small: Small) -> list[bytes]:
  """Return good inputs to begin with."""
  from benchmarks.injected import hostile_inputs

  _, hostile = hostile_inputs.attempts_of_tests()
  seals = [path.read_bytes() for path in small.folder.glob('whole/runs/a/*.seal')]
  tensors = [path.read_bytes() for path in small.folder.glob('whole/runs/**/*.safetensors')]
  pixels = [hostile.png(4, 4, bytes(4 * 13)), hostile.EPS]
  return {
    'npz': [hostile.npz_of(hostile.good_arrays())],
    'csv': [b'a,b,y\n1,2,0\n3,4.5,1\n5,6,0\n'],
    'tensors': tensors,
    'seal': seals,
    'json': [path.read_bytes() for path in small.folder.glob('whole/runs/**/*.json')],
    'image': pixels,
  }[name]


def _planned(small: Small) -> int:
  del small
  return len(NAMES)


ROWS = {'fuzz': Row('inputs found by coverage (atheris)', _planned, fuzz)}
