"""The data folder of the experiment: MNIST, its foreign sets, and MNIST moved cyclically."""

import pathlib

import numpy as np

from ensdistill.storage import safe

FILES = ('mnist.npz', 'fashion_mnist.npz', 'notmnist.npz')
PIXELS = (2, 4, 6, 8, 10)  # of severities 1 to 5


def rolled(x: np.ndarray, pixels: int, seed: int = 0) -> np.ndarray:
  """Return images moved cyclically by this many pixels, up, down, left or right at random."""
  random = np.random.default_rng([seed, pixels])
  found, ways = np.empty_like(x), random.integers(0, 4, len(x))
  for way, (axis, sign) in enumerate([(1, 1), (1, -1), (2, 1), (2, -1)]):
    found[ways == way] = np.roll(x[ways == way], sign * pixels, axis)
  return found


def make(given: pathlib.Path, folder: pathlib.Path) -> None:
  """Link the files of a folder, and write mnist_rolled_1.npz to mnist_rolled_5.npz."""
  folder.mkdir(exist_ok=True)
  for name in FILES:
    if not (given / name).is_file():
      raise SystemExit(f'{given} has no {name}: give the folder with {", ".join(FILES)}')
    link = folder / name
    link.unlink(missing_ok=True)
    link.symlink_to((given / name).resolve())
  for severity, pixels in enumerate(PIXELS, 1):
    path = folder / f'mnist_rolled_{severity}.npz'
    if path.exists():
      continue
    with np.load(folder / 'mnist.npz') as file:
      x, y = rolled(file['x_test'], pixels), file['y_test']
    with safe.replacing(path) as content:
      np.savez(content, x_test=x, y_test=y.astype(np.int32))
