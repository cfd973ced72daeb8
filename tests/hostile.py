"""Hostile inputs, drawn by hypothesis: files and settings that look almost right, or not at all.

Each strategy yields bytes or values. Readers may refuse them with a documented error, in one line;
any other error, a hang or an unbounded allocation is a defect.
"""

import io
import struct
import zipfile
import zlib

import numpy as np
from hypothesis import strategies as st

NUMBERS = st.sampled_from(
  [
    '0',
    '1',
    '2',
    '-1',
    '1.5',
    '1e400',
    'nan',
    'inf',
    '-inf',
    '1_000',
    '',
    '?',
    'NA',
    '0x10',
    '１２',
  ]
  + ['1e-400', '9' * 400, '1,5', ' 3 ', '"4"', '\x00', 'a', 'true', '1.0', '01', '+', 'é', '\ufeff']
)


@st.composite
def damaged(draw, content: bytes) -> bytes:
  """Return bytes with a few of them changed, cut or repeated."""
  data = bytearray(content)
  for _ in range(draw(st.integers(1, 4))):
    if not data:
      break
    at = draw(st.integers(0, len(data) - 1))
    kind = draw(st.sampled_from(['flip', 'byte', 'cut', 'double', 'insert']))
    if kind == 'flip':
      data[at] ^= 1 << draw(st.integers(0, 7))
    elif kind == 'byte':
      data[at] = draw(st.integers(0, 255))
    elif kind == 'cut':
      del data[at : at + draw(st.integers(1, len(data)))]
    elif kind == 'double':
      data[at:at] = data[at : at + 64]
    else:
      data[at:at] = draw(st.binary(min_size=1, max_size=16))
  return bytes(data)


def npz_of(arrays: dict) -> bytes:
  """Return the bytes of an .npz file."""
  file = io.BytesIO()
  np.savez(file, **arrays)
  return file.getvalue()


def npy_of(header: str, content: bytes = b'', version=b'\x01\x00') -> bytes:
  """Return an .npy entry with any header."""
  text = header.encode('latin1', 'replace') + b'\n'
  length = struct.pack('<H' if version == b'\x01\x00' else '<I', min(len(text), 65535))
  return b'\x93NUMPY' + version + length + text + content


def zip_of(entries: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> bytes:
  """Return an archive of raw entries."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', compression) as archive:
    for name, content in entries.items():
      archive.writestr(name, content)
  return file.getvalue()


def bomb(size: int) -> bytes:
  """Return a compressed .npz file with arrays of `size` bytes of zeros."""
  header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size // 64}, 64), }}"
  names = ('x_train', 'y_train', 'x_test', 'y_test')
  content = npy_of(header) + bytes(size)
  return zip_of({f'{name}.npy': content for name in names})


def good_arrays(rows: int = 12) -> dict[str, np.ndarray]:
  """Return the arrays of a small table with labels."""
  random = np.random.RandomState(0)
  x = random.standard_normal((rows, 3)).astype(np.float32)
  y = np.arange(rows) % 2
  return dict(x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])


@st.composite
def arrays(draw):
  """Return an array of an odd type or shape, with odd values."""
  dtype = draw(st.sampled_from('? u1 i1 i4 i8 u8 f2 f4 f8 c8 U3 S3 M8[s] m8[s] V3 >f4 >i2'.split()))
  shape = tuple(draw(st.lists(st.integers(0, 6), max_size=5)))
  size = int(np.prod(shape)) * np.dtype(dtype).itemsize
  raw = draw(st.one_of(st.just(bytes(size)), st.binary(min_size=size, max_size=size)))
  if np.dtype(dtype).kind == 'U':  # not every number is a character
    return np.full(shape, draw(st.text(max_size=3)), 'U3')
  return np.frombuffer(raw, dtype).reshape(shape) if size else np.zeros(shape, dtype)


@st.composite
def npz(draw) -> bytes:
  """Return an .npz file: damaged, with odd arrays, with odd headers, or with an odd archive."""
  kind = draw(st.sampled_from(['damaged', 'arrays', 'header', 'archive', 'noise']))
  good = good_arrays()
  if kind == 'damaged':
    return draw(damaged(npz_of(good)))
  if kind == 'arrays':
    names = st.sampled_from(
      [*good, 'x_valid', 'y_valid', 'x', 'y', 'test_mask', 'classes', 'columns']
    )
    odd = draw(st.dictionaries(names, arrays(), min_size=1, max_size=4))
    return npz_of((good if draw(st.booleans()) else {}) | odd)
  if kind == 'header':
    shape = draw(st.lists(st.integers(-2, 2**64), max_size=3).map(tuple))
    descr = draw(st.sampled_from(['|u1', '<f8', '|O', '<U999999999', '|V0', 'x', '<M8', '|b1', '']))
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    text = draw(
      st.sampled_from([text, text[:-5], '[' * 300, '{' + text, "{'shape': (1,)}", 'é', ''])
    )
    version = draw(st.sampled_from([b'\x01\x00', b'\x02\x00', b'\x03\x00', b'\x09\x00']))
    entry = npy_of(text, draw(st.binary(max_size=64)), version)
    return zip_of({'x_train.npy': entry, 'y_train.npy': entry, 'x_test.npy': entry})
  if kind == 'archive':
    names = st.sampled_from(
      ['x_train.npy', 'x_train', '../x_train.npy', '', 'y_train.npy', 'x.npy']
    )
    how = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    return draw(
      damaged(zip_of(draw(st.dictionaries(names, st.binary(max_size=99), min_size=1)), how))
    )
  return draw(st.binary(max_size=400))


@st.composite
def edited_csv(draw) -> bytes:
  """Return a table that is good but for a few cells, or for a few bytes."""
  table = [[f'{i % 5}', f'{i / 2}', f'{i % 2}'] for i in range(40)]
  for _ in range(draw(st.integers(0, 3))):
    table[draw(st.integers(0, 39))][draw(st.integers(0, 2))] = draw(NUMBERS)
  text = '\n'.join(','.join(row) for row in [['a', 'b', 'y'], *table]).encode()
  return draw(damaged(text)) if draw(st.booleans()) else text


@st.composite
def csv(draw) -> bytes:
  """Return a table as text: odd values, rows of odd lengths, odd encodings, or noise."""
  kind = draw(st.sampled_from(['values', 'damaged', 'noise', 'edited', 'edited']))
  if kind == 'noise':
    return draw(st.binary(max_size=300))
  if kind == 'edited':
    return draw(edited_csv())
  columns = draw(st.integers(1, 4))
  header = draw(
    st.sampled_from([['a', 'b', 'c', 'y'][-columns:], ['y'] * columns, ['1'] * columns, ['']])
  )
  values = NUMBERS if kind == 'values' else st.sampled_from(['0', '1', '2.5', '-3'])
  rows = draw(st.lists(st.lists(values, min_size=columns, max_size=columns), max_size=24))
  delimiter = draw(st.sampled_from(',;\t'))
  text = '\n'.join(delimiter.join(row) for row in [header, *rows]).encode(
    draw(st.sampled_from(['utf-8', 'utf-16', 'utf-8-sig']))
  )
  return draw(damaged(text)) if kind == 'damaged' and text else text


def png(width: int, height: int, content: bytes = b'') -> bytes:
  """Return a PNG file that states any size."""

  def chunk(kind, body):
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

  head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', head)
    + chunk(b'IDAT', zlib.compress(content))
    + chunk(b'IEND', b'')
  )


EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) = quit\n%%EOF\n'


@st.composite
def image(draw) -> bytes:
  """Return a file called an image: damaged, of a huge size, of another format, or noise."""
  kind = draw(st.sampled_from(['damaged', 'huge', 'other', 'noise']))
  if kind == 'huge':
    return png(draw(st.integers(0, 2**31 - 1)), draw(st.integers(0, 2**31 - 1)), bytes(99))
  if kind == 'other':
    return draw(st.sampled_from([EPS, b'%PDF-1.4\n', b'<svg/>', b'', b'\x00' * 99, b'GIF89a']))
  if kind == 'noise':
    return draw(st.binary(max_size=300))
  import PIL.Image

  file = io.BytesIO()
  pixels = np.random.RandomState(0).randint(0, 256, (9, 7, 3), np.uint8)
  PIL.Image.fromarray(pixels).save(file, draw(st.sampled_from(['PNG', 'JPEG', 'BMP', 'GIF'])))
  return draw(damaged(file.getvalue()))


def config_values():
  """Return values that a configuration file may set by mistake."""
  numbers = st.one_of(st.floats(), st.integers(), st.integers(-(10**30), 10**30))
  nested = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
  return st.one_of(numbers, nested, st.booleans())
