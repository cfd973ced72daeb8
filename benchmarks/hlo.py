"""Read the text of a compiled TPU program: what moves between chips, and to and from HBM."""

import collections
import math
import re
from typing import NamedTuple

SIZES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4}
KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')
LINE = re.compile(r'\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z\-]+)\((.*)')
TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
CALLED = re.compile(r'(?:body|condition|to_apply|calls)=%?([\w.\-]+)')
ARRAY = re.compile(r'(\w+)\[([\d,]*)\](\{[^}]*\})?')
# They name arrays or wait for them, but move nothing themselves.
STILL = {
  'parameter', 'tuple', 'get-tuple-element', 'bitcast', 'constant', 'custom-call', 'while',
  'copy-done', 'slice-done',
}  # fmt: skip


class Array(NamedTuple):
  bytes: int
  on_chip: bool  # in the chip's vector memory, 128 MB of a v5e, instead of its HBM


class Instruction(NamedTuple):
  operation: str
  results: list[Array]
  operands: list[Array]
  times: int  # turns of the loops around it
  fused: bool  # in a fusion, whose operands and results are what counts


def instructions(text: str) -> list[Instruction]:
  """Return the instructions of a compiled program; a loop of unknown length counts once."""
  bodies: dict[str, list[str]] = {}
  entry, lines = '', []
  for line in text.splitlines():
    if line[:1] in ('%', 'E') and line.endswith('{'):
      name = line.removeprefix('ENTRY ').lstrip('%').split(' ')[0]
      entry = name if line.startswith('ENTRY') else entry
      lines = bodies.setdefault(name, [])
    elif line.startswith(' '):
      lines.append(line)
  found = []

  def visit(name, times, fused):
    shapes: dict[str, list[Array]] = {}
    for line in bodies.get(name, []):
      match = LINE.match(line)
      if not match:
        continue
      name, shape, operation, rest = match.groups()
      shapes[name] = _arrays(shape)
      named = re.findall(r'%([\w.\-]+)', rest.split('), ')[0])
      operands = [array for other in named for array in shapes.get(other, [])]
      found.append(Instruction(operation, shapes[name], operands, times, fused))
      turns = TURNS.search(line) if operation == 'while' else None
      inside = fused or operation == 'fusion'
      for called in CALLED.findall(line):
        visit(called, times * int(turns.group(1) if turns else 1), inside)

  visit(entry, 1, False)
  return found


def _arrays(shape: str) -> list[Array]:
  return [
    Array(SIZES[kind] * math.prod(int(n) for n in axes.split(',') if n), 'S(1)' in layout)
    for kind, axes, layout in ARRAY.findall(shape)
    if kind in SIZES
  ]


def collectives(text: str) -> dict[str, tuple[int, int]]:
  """Return {kind: (calls, bytes of their results)} of a program, on one device."""
  calls: collections.Counter = collections.Counter()
  moved: collections.Counter = collections.Counter()
  for one in instructions(text):
    kind = one.operation.removesuffix('-start')
    if kind not in KINDS:
      continue
    size = sum(array.bytes for array in one.results)
    if one.operation != kind and kind != 'all-reduce':
      size //= 2  # these list their operands beside their results
    calls[kind] += one.times
    moved[kind] += one.times * size
  return {kind: (calls[kind], moved[kind]) for kind in KINDS if calls[kind]}


def traffic(text: str) -> int:
  """Return the bytes that a program reads from and writes to HBM, on one device.

  XLA's own count of bytes is larger: it includes reads and writes of the vector memory, in which
  XLA keeps most activations of a small network.
  """
  total = 0
  for one in instructions(text):
    if one.fused or one.operation in STILL:
      continue
    if one.operation in ('copy-start', 'slice-start'):  # between HBM and vector memory
      total += one.times * min(array.bytes for array in one.results[:2])
      continue
    arrays = [*one.results, *one.operands]
    total += one.times * sum(array.bytes for array in arrays if not array.on_chip)
  return total
