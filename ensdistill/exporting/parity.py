"""The gate of every exported file: its outputs against the student's, on test and random inputs."""

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from ensdistill import data
from ensdistill.data.images import sizes
from ensdistill.exporting import inference
from ensdistill.exporting.blocks import in_blocks
from ensdistill.student import inputs as student_inputs
from ensdistill.student.model import Model

LIMIT = 1e-4  # largest difference that is accepted
EXAMPLES = 1000  # of the test set, at most
RANDOM = 256
BLOCK = 128  # examples of a call, so that memory is bounded
OTHER = 'try another format, such as stablehlo'
VARIANCES = ('variance', 'total', 'data', 'knowledge')


class Rejected(ValueError):
  """A file whose outputs are not those of the student."""

  def __init__(self, found: Mapping[str, Mapping[str, float]], remedy: str = OTHER):
    kind, name, value = max(
      ((kind, name, value) for kind, row in found.items() for name, value in row.items()),
      key=lambda entry: entry[2],
    )
    super().__init__(
      f"output {name!r} differs by {value:.3g} from the student's on {kind} inputs, {LIMIT:g} is "
      f'allowed: {remedy}'
    )
    self.found = found


def test_inputs(dataset) -> np.ndarray | None:
  """Return the first inputs of a data set's test part."""
  first = itertools.islice(data.blocks(dataset.test.x, EXAMPLES), 1)
  return next(iter(first), None)


def inputs(model: Model, test=None) -> dict[str, np.ndarray]:
  """Return the inputs to compare on, as a file takes them: {'test': x, 'random': x}."""
  found = {} if test is None else {'test': test}
  found['random'] = _random(model.spec)
  dtype = inference.of(model).dtype
  return {kind: _accepted(model, x, dtype) for kind, x in found.items()}


def _accepted(model: Model, x: np.ndarray, dtype) -> np.ndarray:
  accepted = student_inputs.accept(x, model.spec, on_invalid='flag')
  return sizes.as_dtype(accepted.x[~accepted.invalid][:EXAMPLES], dtype)


def _random(spec: Mapping) -> np.ndarray:
  """Return random images, or rows within the ranges of training."""
  random, shape = np.random.default_rng(0), (RANDOM, *spec['shape'])
  if inference.takes_bytes(spec):
    return random.integers(0, 256, shape).astype(np.uint8)
  if len(spec['shape']) == 3:
    return random.random(shape, np.float32)
  known = spec.get('inputs')
  if known:
    low, high = (np.asarray(known[name]) for name in ('low', 'high'))
    return (low + (high - low) * random.random(shape)).astype(np.float32)
  mean, std = (np.asarray(spec[name]) for name in ('mean', 'std'))
  return (mean + std * random.normal(size=shape)).astype(np.float32)


def differences(expected: Mapping, found: Mapping, has_classes: bool) -> dict[str, float]:
  """Return the largest difference of each output.

  Probabilities and entropies are compared as they are. For regression, means are relative to the
  deviation of the prediction, and variances to its variance.
  """
  if set(expected) != set(found):
    raise ValueError(f'outputs are {sorted(found)}, and should be {sorted(expected)}')
  return {
    name: _largest(value, found[name], 1.0 if has_classes else _scale(name, value, expected))
    for name, value in expected.items()
  }


def _scale(name: str, value: np.ndarray, expected: Mapping) -> np.ndarray:
  variance = expected['variance']
  if name in VARIANCES:
    return variance if name == 'variance' else expected['total']
  deviation = np.sqrt(variance)
  return deviation[:, None] if value.ndim == 3 else deviation


def _largest(expected, found, scale) -> float:
  a, b = (np.asarray(values, np.float64) for values in (expected, found))
  if a.shape != b.shape:
    return np.inf
  with np.errstate(invalid='ignore', divide='ignore'):
    gap = np.abs(a - b) / scale
  gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, gap)
  return float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0))


def check(model: Model, run: Callable, compared: Mapping[str, np.ndarray]) -> dict[str, dict]:
  """Return the differences of a file from the student by kind of input; raise Rejected above LIMIT.

  run: x -> {name: array}, by the file.
  """
  reference = inference.in_float32(model)
  by_kind = {}
  for kind, x in compared.items():
    if not len(x):
      continue
    expected = inference.expected(reference, x)
    by_kind[kind] = differences(expected, in_blocks(run, x, BLOCK), model.family.has_classes)
    one = {name: values[:1] for name, values in expected.items()}  # another size of a batch
    for name, value in differences(one, run(x[:1]), model.family.has_classes).items():
      by_kind[kind][name] = max(by_kind[kind][name], value)
  if max(itertools.chain(*(row.values() for row in by_kind.values()))) > LIMIT:
    raise Rejected(by_kind, _remedy(by_kind, expected))
  return by_kind


def _remedy(found: Mapping[str, Mapping[str, float]], expected: Mapping) -> str:
  """Return the remedy: float32 has too few digits for targets far from zero."""
  wrong = {name for row in found.values() for name, value in row.items() if value > LIMIT}
  if not wrong <= {'mean', 'members'} or 'variance' not in expected:
    return OTHER
  size = float((np.abs(expected['mean']) / np.sqrt(expected['variance'])).max())
  if size * np.finfo(np.float32).eps < LIMIT / 10:
    return OTHER
  return (
    f'means are up to {size:.2g} deviations from zero, too many for float32 outputs, so train on '
    'targets minus a constant'
  )
