"""Export a student to another format; the file is checked before it gets its name."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from ensdistill import memory, messages, names, runtime, stopping
from ensdistill.exporting import inference, parity, stablehlo, tensorflow
from ensdistill.exporting.onnx import file as onnx_file
from ensdistill.storage import safe, seals
from ensdistill.student.model import Model

_BLOCK = 1 << 20  # bytes that are read at once


@dataclasses.dataclass(frozen=True)
class Format:
  """A format of files.

  Attributes:
    suffix: of the file's name.
    write: (inference, describe, path, batch) -> facts for the file's record.
    load: path -> function x -> {name: array}, by the format's own runtime.
    packages: what is imported, beyond the requirements of ensdistill.
    extra: the optional requirements that bring these packages.
    folder: whether the file is a folder.
  """

  suffix: str
  write: Callable
  load: Callable
  packages: tuple[str, ...] = ()
  extra: str = ''
  folder: bool = False


FORMATS = {
  'stablehlo': Format('.stablehlo', stablehlo.write, stablehlo.load),
  'onnx': Format('.onnx', onnx_file.write, onnx_file.load, ('onnx', 'onnxruntime'), 'onnx'),
  'savedmodel': Format(
    '.savedmodel',
    tensorflow.write_savedmodel,
    tensorflow.load_savedmodel,
    ('tensorflow',),
    'tf',
    folder=True,
  ),
  'tflite': Format(
    '.tflite', tensorflow.write_tflite, tensorflow.load_tflite, ('tensorflow',), 'tf'
  ),
}


@dataclasses.dataclass(frozen=True)
class Written:
  """A file that is written, and what was measured."""

  path: pathlib.Path
  record: pathlib.Path  # the JSON file beside it
  size: int  # bytes
  facts: dict
  parity: dict[str, dict]  # kind of input -> output -> largest difference
  examples: dict[str, int]


def check_packages(kind: str) -> None:
  """Raise ValueError, with the command, if the packages of a format are not installed."""
  form = names.lookup('format', kind, FORMATS)
  for package in form.packages:
    if importlib.util.find_spec(package) is None:
      raise ValueError(
        f'--to={kind} needs the package {package}: pip install "ensdistill[{form.extra}]"'
      )


def write(model: Model, kind: str, path, test=None, batch: int | None = None) -> Written:
  """Write a student in a format, with a record of its parity beside it.

  The file is written under another name, loaded by its own runtime and compared with the student on
  test inputs and on random ones. Raises parity.Rejected if it differs too much. After any error
  nothing new is left, and an older file and its record stay as they were; only if the last move,
  that of the record, fails, the new file lies beside the older record.

  Args:
    test: inputs of the test set, if they are at hand.
    batch: examples of a call; None: any number, or 1 where the format needs a number.
  """
  check_packages(kind)
  form, path = FORMATS[kind], pathlib.Path(path)
  record = _record_of(path)
  if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
    raise ValueError(f'batch={batch!r} must be a whole number from 1, or None')
  _check_place(form, path, record)
  function = inference.of(model)
  describe = functools.partial(inference.description, model)
  compared = parity.inputs(model, test)
  examples = {name: len(x) for name, x in compared.items()}
  with _part(path) as part, _part(record) as new_record, _one_line(kind):
    with safe.writing(path):
      facts = form.write(function, describe, part, batch)
    found = parity.check(model, form.load(part), compared)
    rough = _of_bfloat16(model, compared)
    if rough:
      facts['note'] = '; '.join(filter(None, [facts.get('note'), rough]))
    digest, size = _digest(part)
    content = {
      'file': path.name,
      'format': kind,
      'sha256': digest,
      **describe(facts['batch']),
      **facts,
      'parity': {
        'limit': parity.LIMIT,
        **{name: {'examples': examples[name], **row} for name, row in found.items()},
      },
      'versions': runtime.versions() | _versions(form),
    }
    with safe.writing(record):
      new_record.write_text(seals.to_json(content))
    stopping.check()
    with safe.writing(path):
      _replace(part, path)
    with safe.writing(record):
      os.replace(new_record, record)
  return Written(path, record, size, facts, found, examples)


def _record_of(path: pathlib.Path) -> pathlib.Path:
  """Return the path of the record beside a file."""
  return path.with_name(f'{path.name}.json')


def _of_bfloat16(model: Model, compared: dict) -> str | None:
  """Return a note on the difference of a bfloat16 student from its float32 file, or None."""
  exact = inference.in_float32(model)
  if exact is model:
    return None
  both = [inference.expected(one, compared['random']) for one in (exact, model)]
  gap = max(parity.differences(both[0], both[1], model.family.has_classes).values())
  return (
    f'the student computes in bfloat16 and the file in float32: outputs differ by up to {gap:.2g}'
  )


def _check_place(form: Format, path: pathlib.Path, record: pathlib.Path) -> None:
  """Raise ValueError if the path, or that of its record, holds something else than an export."""
  if (path.resolve().parent / 'student.seal').exists():
    raise ValueError(f"{path} lies in a student's folder: choose another place with --out")
  if record.exists() and not _is_record(record):
    raise ValueError(
      f'{record}, the place of the record, holds something else: choose another name with --out'
    )
  known = record.exists() or path.suffix == form.suffix
  if form.folder:
    foreign = path.is_dir() and any(path.iterdir()) and not (path / 'saved_model.pb').exists()
    if foreign or (path.exists() and not path.is_dir()):
      raise ValueError(f'{path} holds other files: give a new folder with --out')
  elif path.is_dir():
    raise ValueError(f'{path} is a folder: give the name of a file with --out')
  elif path.exists() and not known:
    raise ValueError(
      f'{path} exists, and is not an earlier export: give a new file, or one that ends with '
      f'{form.suffix}, with --out'
    )


def _is_record(path: pathlib.Path) -> bool:
  """Return whether a file is the record of an exported file."""
  try:
    record = json.loads(path.read_text())
  except (OSError, ValueError):
    return False
  return isinstance(record, dict) and {'file', 'format', 'parity'} <= record.keys()


@contextlib.contextmanager
def _part(path: pathlib.Path, label: str = '') -> Iterator[pathlib.Path]:
  """Yield a temporary path beside another one; remove what is left there at the end."""
  part = safe.part_of(path, label)
  with safe.writing(path):  # a folder that refuses files is found before the work
    path.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    part.unlink()
  try:
    yield part
  finally:
    if part.is_dir() and not part.is_symlink():
      shutil.rmtree(part, ignore_errors=True)
    else:
      part.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_line(kind: str) -> Iterator[None]:
  """Turn errors of other packages, which are of any type, into a ValueError."""
  try:
    yield
  except (ValueError, OSError):
    raise
  except Exception as error:
    if memory.exhausted(error):
      raise
    raise ValueError(f'--to={kind} failed ({messages.described(error)})') from error


def _replace(part: pathlib.Path, path: pathlib.Path) -> None:
  """Rename a finished part; an older folder is moved away first, and restored on errors."""
  if not path.is_dir():
    os.replace(part, path)
    return
  with _part(path, '.old') as old:
    os.replace(path, old)
    try:
      os.replace(part, path)
    except BaseException:
      os.replace(old, path)
      raise


def _digest(path: pathlib.Path) -> tuple[str, int]:
  """Return the SHA-256 of a file, or of a folder's files in order, and the bytes."""
  files = sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]
  digest, size = hashlib.sha256(), 0
  for file in files:
    with open(file, 'rb') as content:
      while block := content.read(_BLOCK):
        digest.update(block)
        size += len(block)
  return digest.hexdigest(), size


def _versions(form: Format) -> dict[str, str]:
  found = {}
  for package in form.packages:
    for name in (package, f'{package}-cpu', f'{package}-gpu'):
      with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found[name] = importlib.metadata.version(name)
        break
  return found
