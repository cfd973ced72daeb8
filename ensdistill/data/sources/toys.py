"""Small sets that need no file: drawn from a formula, or bundled with scikit-learn.

NumPy's RandomState draws them, because its numbers are the same in all versions of NumPy.
"""

import functools
import importlib.util
from collections.abc import Callable

import numpy as np

from ensdistill import names
from ensdistill.data.dataset import Examples, Source

_PARTS = ('train', 'valid', 'test')
_DIGITS = {'train': slice(800), 'test': slice(800, None)}  # the last 200 of train are validation


def digits(request) -> Source:
  """Return scikit-learn's 1,797 images of 8 x 8 in [0, 1]: 600 train, 200 validation, 997 test.

  The order is fixed and does not depend on the seed. With more training data, single members are so
  good that their ensemble has nothing to improve.
  """
  parts = {part: functools.partial(_digits, rows) for part, rows in _DIGITS.items()}
  return Source(request.name, parts, classes=tuple('0123456789'), class_count=10, valid=200)


def digits_inverted(request) -> Source:
  """Return the digits with black and white exchanged: inputs only."""
  return Source(
    request.name, {part: functools.partial(_inverted, rows) for part, rows in _DIGITS.items()}
  )


def _digits(rows) -> Examples:
  table = np.loadtxt(f'{_bundled()}/data/digits.csv.gz', delimiter=',')  # 64 pixels, a label
  table = table[np.random.RandomState(0).permutation(len(table))[rows]]
  x, y = table[:, :-1] / 16, table[:, -1]
  return Examples(x.astype(np.float32).reshape(-1, 8, 8, 1), y.astype(np.int64))


def _inverted(rows) -> Examples:
  return Examples(1 - _digits(rows).x, None)


def _bundled() -> str:
  """Return the folder of scikit-learn's data; importing scikit-learn would take seconds."""
  package = importlib.util.find_spec('sklearn')
  assert package and package.submodule_search_locations
  return f'{package.submodule_search_locations[0]}/datasets'


def photographs(request, *, size: int = 1000, crop: int = 64) -> Source:
  """Return square crops of scikit-learn's two photographs, one per part: inputs only."""

  def read(photograph, seed):
    from PIL import Image

    image = np.asarray(Image.open(f'{_bundled()}/images/{photograph}'))
    random = np.random.RandomState(seed)
    tops = random.randint(0, image.shape[0] - crop + 1, size)
    lefts = random.randint(0, image.shape[1] - crop + 1, size)
    crops = [image[i : i + crop, j : j + crop] for i, j in zip(tops, lefts)]
    return Examples(np.stack(crops), None)

  return Source(
    request.name,
    {
      'train': functools.partial(read, 'flower.jpg', [request.seed, 0]),
      'test': functools.partial(read, 'china.jpg', [request.seed, 2]),
    },
  )


def spirals(request, *, noise: float = 0.1, per_class: int = 1000) -> Source:
  """Return three spirals (EnD2, ICLR 2020): classes overlap at the centre, arms part further out.

  n = 6 pi sqrt(u), phi_k = 2 pi k / 3: x = -cos(n + phi_k) n^2 + noise n^{3/2} eps_1,
  y = sin(n + phi_k) n^2 + noise n^{3/2} eps_2 with u ~ U(0, 1), eps ~ N(0, 1).
  """

  def draw(random, size):
    label = np.repeat(np.arange(3), size)
    n = 6 * np.pi * np.sqrt(random.random_sample(3 * size))
    angle = n + 2 * np.pi * label / 3
    x = np.stack([-np.cos(angle), np.sin(angle)], 1) * n[:, None] ** 2
    x += noise * n[:, None] ** 1.5 * random.standard_normal((3 * size, 2))
    return Examples(x, label)

  sizes = {'train': per_class, 'valid': max(per_class // 10, 1), 'test': per_class}
  return Source(request.name, _drawn(request, draw, sizes), columns=('x', 'y'), class_count=3)


def spirals_ood(request, *, radius: float = 410.0, noise: float = 1.0, size: int = 1000) -> Source:
  """Return points on a circle around the spirals: inputs only.

  Radius and noise are those of the authors' code; an independent reproduction uses 800 and 100.
  """

  def draw(random, size):
    angle = 2 * np.pi * random.random_sample(size)
    x = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return Examples(x + noise * random.standard_normal((size, 2)), None)

  return Source(request.name, _drawn(request, draw, {'train': size, 'test': size}))


def _wave(x):
  return np.sin(x) - 0.1 * x + 0.1 * x**2 + 0.01 * x**3


def _cubic(x):
  return x**3 / 20


def _step(x):
  return np.tanh(4 * x)


FUNCTIONS = {'wave': _wave, 'cubic': _cubic, 'step': _step}  # values of toy1d's `function`


def toy1d(request, *, function: str = 'wave', noise: float = 0.2, size: int = 200) -> Source:
  """Return a regression with a gap: x ~ U(-5, -2) or U(2, 5), y = f(x) + noise eps."""
  f = names.lookup('function of toy1d', function, FUNCTIONS)

  def draw(random, size):
    x = random.uniform(2, 5, size) * random.choice([-1, 1], size)
    return Examples(x[:, None], f(x) + noise * random.standard_normal(size))

  sizes = {'train': size, 'valid': max(size // 4, 2), 'test': size}
  return Source(request.name, _drawn(request, draw, sizes), columns=('x',))


def toy1d_ood(request, *, size: int = 200) -> Source:
  """Return inputs in the gap of toy1d and beyond its ends: |x| < 1.5 or 6 < |x| < 8."""

  def draw(random, size):
    gap, beyond = random.uniform(-1.5, 1.5, size), random.uniform(6, 8, size)
    x = np.where(random.random_sample(size) < 0.5, gap, beyond * random.choice([-1, 1], size))
    return Examples(x[:, None], None)

  return Source(request.name, _drawn(request, draw, {'train': size, 'test': size}))


def _drawn(request, draw: Callable, sizes: dict[str, int]) -> dict[str, Callable[[], Examples]]:
  """Return the parts draw(random, size), each from a random stream of its own."""

  def part_of(part):
    return draw(np.random.RandomState([request.seed, _PARTS.index(part)]), sizes[part])

  return {part: functools.partial(part_of, part) for part in sizes}


def diabetes(request) -> Source:
  """Return scikit-learn's 442 patients, ten columns in their own units; 20 splits, a tenth test."""

  def read(part):
    from sklearn import datasets

    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    order = np.random.RandomState(request.split).permutation(len(x))
    rows = order[: len(x) // 10] if part == 'test' else order[len(x) // 10 :]
    return Examples(x[rows], y[rows].astype(np.float64))

  return Source(
    request.name,
    {part: functools.partial(read, part) for part in ('train', 'test')},
    columns=('age', 'sex', 'bmi', 'bp', 's1', 's2', 's3', 's4', 's5', 's6'),
    splits=20,
  )
