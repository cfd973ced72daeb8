"""Small sets that need no file: drawn from a formula, or bundled with scikit-learn.

They are drawn by NumPy's RandomState, whose numbers never change between its versions.
"""

import importlib.util

import numpy as np

from ensdistill import names
from ensdistill.data.dataset import Source, Split

# y = f(x) of `toy1d`, by the name of its setting `function`.
FUNCTIONS = {
  'wave': lambda x: np.sin(x) - 0.1 * x + 0.1 * x**2 + 0.01 * x**3,
  'cubic': lambda x: x**3 / 20,
  'step': lambda x: np.tanh(4 * x),
}
_PARTS = ('train', 'valid', 'test')
_DIGITS = {'train': slice(800), 'test': slice(800, None)}  # the last 200 of train are validation


def _drawn(request, draw, sizes) -> dict:
  """Every part from its own stream of random numbers."""
  stream = lambda part: np.random.RandomState([request.seed, _PARTS.index(part)])
  return {part: (lambda part=part: draw(stream(part), sizes[part])) for part in sizes}


def digits(request) -> Source:
  """scikit-learn's 1,797 images of 8 x 8 in [0, 1]: 600 train, 200 validation, 997 test.

  The order is fixed, whatever the seed. With more training data members are so good that there is
  no gap between them and their ensemble.
  """
  return Source(
    request.name,
    {part: (lambda rows=rows: _digits(rows)) for part, rows in _DIGITS.items()},
    classes=tuple('0123456789'),
    targets=10,
    valid=200,
  )


def digits_inverted(request) -> Source:
  """The digits in white where they are black: inputs alone."""
  parts = digits(request).parts
  return Source(
    request.name,
    {part: (lambda read=read: Split(1 - read().x, None)) for part, read in parts.items()},
  )


def _digits(rows) -> Split:
  table = np.loadtxt(f'{_bundled()}/data/digits.csv.gz', delimiter=',')  # 64 pixels, a label
  table = table[np.random.RandomState(0).permutation(len(table))[rows]]
  x, y = table[:, :-1] / 16, table[:, -1]
  return Split(x.astype(np.float32).reshape(-1, 8, 8, 1), y.astype(np.int64))


def _bundled() -> str:
  """The folder of scikit-learn's data; its files are read here, for importing it takes seconds."""
  return f'{importlib.util.find_spec("sklearn").submodule_search_locations[0]}/datasets'


def photographs(request, *, size: int = 1000, crop: int = 64) -> Source:
  """Square crops of scikit-learn's two photographs, one for each part: inputs alone."""

  def read(photograph, seed):
    from PIL import Image

    image = np.asarray(Image.open(f'{_bundled()}/images/{photograph}'))
    random = np.random.RandomState(seed)
    tops = random.randint(0, image.shape[0] - crop + 1, size)
    lefts = random.randint(0, image.shape[1] - crop + 1, size)
    crops = [image[i : i + crop, j : j + crop] for i, j in zip(tops, lefts)]
    return Split(np.stack(crops), None)

  return Source(
    request.name,
    {
      'train': lambda: read('flower.jpg', [request.seed, 0]),
      'test': lambda: read('china.jpg', [request.seed, 2]),
    },
  )


def spirals(request, *, noise: float = 0.1, per_class: int = 1000) -> Source:
  """Three spirals (EnD2, ICLR 2020): classes overlap at the centre, arms part further out.

  n = 6 pi sqrt(u), phi_k = 2 pi k / 3: x = -cos(n + phi_k) n^2 + noise n^{3/2} eps_1,
  y = sin(n + phi_k) n^2 + noise n^{3/2} eps_2 with u ~ U(0, 1), eps ~ N(0, 1).
  """

  def draw(random, size):
    label = np.repeat(np.arange(3), size)
    n = 6 * np.pi * np.sqrt(random.random_sample(3 * size))
    angle = n + 2 * np.pi * label / 3
    x = np.stack([-np.cos(angle), np.sin(angle)], 1) * n[:, None] ** 2
    x += noise * n[:, None] ** 1.5 * random.standard_normal((3 * size, 2))
    return Split(x, label)

  sizes = {'train': per_class, 'valid': max(per_class // 10, 1), 'test': per_class}
  return Source(request.name, _drawn(request, draw, sizes), columns=('x', 'y'), targets=3)


def spirals_ood(request, *, radius: float = 410.0, noise: float = 1.0, size: int = 1000) -> Source:
  """Points on a circle around the spirals: inputs alone.

  Radius and noise as in the authors' code; an independent reproduction has 800 and 100.
  """

  def draw(random, size):
    angle = 2 * np.pi * random.random_sample(size)
    x = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return Split(x + noise * random.standard_normal((size, 2)), None)

  return Source(request.name, _drawn(request, draw, {'train': size, 'test': size}))


def toy1d(request, *, function: str = 'wave', noise: float = 0.2, size: int = 200) -> Source:
  """Regression in one dimension with a gap: x ~ U(-5, -2) or U(2, 5), y = f(x) + noise eps."""
  f = names.lookup('function of toy1d', function, FUNCTIONS)

  def draw(random, size):
    x = random.uniform(2, 5, size) * random.choice([-1, 1], size)
    return Split(x[:, None], f(x) + noise * random.standard_normal(size))

  sizes = {'train': size, 'valid': max(size // 4, 2), 'test': size}
  return Source(request.name, _drawn(request, draw, sizes), columns=('x',))


def toy1d_ood(request, *, size: int = 200) -> Source:
  """Where toy1d has no data: in its gap and beyond its ends, |x| < 1.5 or 6 < |x| < 8."""

  def draw(random, size):
    gap, beyond = random.uniform(-1.5, 1.5, size), random.uniform(6, 8, size)
    x = np.where(random.random_sample(size) < 0.5, gap, beyond * random.choice([-1, 1], size))
    return Split(x[:, None], None)

  return Source(request.name, _drawn(request, draw, {'train': size, 'test': size}))


def diabetes(request) -> Source:
  """scikit-learn's 442 patients, ten columns in their own units; 20 seeded splits, a tenth test."""

  def read(part):
    from sklearn import datasets

    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    order = np.random.RandomState(request.split).permutation(len(x))
    rows = order[: len(x) // 10] if part == 'test' else order[len(x) // 10 :]
    return Split(x[rows], y[rows].astype(np.float64))

  return Source(
    request.name,
    {part: (lambda part=part: read(part)) for part in ('train', 'test')},
    columns=('age', 'sex', 'bmi', 'bp', 's1', 's2', 's3', 's4', 's5', 's6'),
    splits=20,
  )
