"""Make the data: the first images of CIFAR-10, box-averaged to 16 x 16.

  python -m experiments.cifar_small.data --cifar10=FILE.npz [--cifar100=FILE.npz] --out=FOLDER

The files hold x_train, y_train, x_test and y_test, uint8 [N, 32, 32, 3]. FOLDER/cifar_small.npz
gets the first 6,000 training images, the next 2,000 for validation, and all test images.
FOLDER/cifar_grid.npz has the same training and validation images, and 10,000 further training
images in place of the test images: what is chosen with it has not seen the test images.
FOLDER/cifar100_small.npz gets 2,000 test images of CIFAR-100, as foreign inputs.
"""

import argparse
import pathlib

import numpy as np

from ensdistill.storage import safe

TRAIN, VALID, FOREIGN = 6000, 2000, 2000
CHOOSING = TRAIN + VALID, TRAIN + VALID + 10_000


def box(x: np.ndarray) -> np.ndarray:
  """Return images [N, 2 H, 2 W, C] at half their size: rounded means of 2 x 2 pixels, uint8."""
  n, height, width, channels = x.shape
  blocks = x.reshape(n, height // 2, 2, width // 2, 2, channels).astype(np.uint16)
  return ((blocks.sum((2, 4)) + 2) // 4).astype(np.uint8)


def make(cifar10: pathlib.Path, cifar100: pathlib.Path | None, out: pathlib.Path) -> None:
  """Write the files that do not exist."""
  out.mkdir(parents=True, exist_ok=True)
  tests = {'cifar_small': ('test', slice(None)), 'cifar_grid': ('train', slice(*CHOOSING))}
  if not all((out / f'{name}.npz').exists() for name in tests):
    found = read(cifar10)
    for name, test in tests.items():
      parts = {'train': ('train', slice(TRAIN)), 'valid': ('train', slice(TRAIN, TRAIN + VALID))}
      arrays = {}
      for part, (source, rows) in (parts | {'test': test}).items():
        arrays[f'x_{part}'] = box(found[f'x_{source}'][rows])
        arrays[f'y_{part}'] = found[f'y_{source}'][rows].astype(np.int32)
      write(out / f'{name}.npz', arrays)
  if cifar100 and not (out / 'cifar100_small.npz').exists():
    write(out / 'cifar100_small.npz', {'x_test': box(read(cifar100)['x_test'][:FOREIGN])})


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Return the arrays of a file of images of 32 x 32."""
  with np.load(path) as file:
    found = {name: file[name] for name in file.files}
  for name, array in found.items():
    if name.startswith('x_') and (array.shape[1:] != (32, 32, 3) or array.dtype != np.uint8):
      raise SystemExit(f'{path}: {name} is {array.dtype} {array.shape}: give uint8 [N, 32, 32, 3]')
  return found


def write(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Write a file whole or not at all."""
  with safe.replacing(path) as file:
    np.savez(file, **arrays)  # type: ignore[arg-type]


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--cifar10', type=pathlib.Path, required=True, metavar='FILE.npz')
  parser.add_argument('--cifar100', type=pathlib.Path, metavar='FILE.npz')
  parser.add_argument('--out', type=pathlib.Path, required=True, metavar='FOLDER')
  given = parser.parse_args(arguments)
  make(given.cifar10, given.cifar100, given.out)


if __name__ == '__main__':
  main()
