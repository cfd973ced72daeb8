"""Make the data: the first images of CIFAR-10, box-averaged to 16 x 16.

  python -m experiments.cifar_small.data --cifar10=FILE.npz [--cifar100=FILE.npz] --out=FOLDER

The files hold x_train, y_train, x_test and y_test, uint8 [N, 32, 32, 3]. FOLDER/cifar_small.npz
gets the first 6,000 training images, the next 2,000 for validation, and all test images.
FOLDER/cifar100_small.npz gets 2,000 test images of CIFAR-100, as foreign inputs.
"""

import argparse
import pathlib

import numpy as np

TRAIN, VALID, FOREIGN = 6000, 2000, 2000


def box(x: np.ndarray) -> np.ndarray:
  """Return images [N, 2 H, 2 W, C] at half their size: rounded means of 2 x 2 pixels, uint8."""
  n, height, width, channels = x.shape
  blocks = x.reshape(n, height // 2, 2, width // 2, 2, channels).astype(np.uint16)
  return ((blocks.sum((2, 4)) + 2) // 4).astype(np.uint8)


def make(cifar10: pathlib.Path, cifar100: pathlib.Path | None, out: pathlib.Path) -> None:
  """Write the files that do not exist."""
  out.mkdir(parents=True, exist_ok=True)
  if not (out / 'cifar_small.npz').exists():
    found = read(cifar10)
    rows = slice(TRAIN, TRAIN + VALID)
    parts = {'train': slice(TRAIN), 'valid': rows, 'test': slice(None)}
    arrays = {}
    for name, rows in parts.items():
      source = 'test' if name == 'test' else 'train'
      arrays[f'x_{name}'] = box(found[f'x_{source}'][rows])
      arrays[f'y_{name}'] = found[f'y_{source}'][rows].astype(np.int32)
    write(out / 'cifar_small.npz', arrays)
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
  part = path.with_name(f'{path.stem}.part.npz')
  np.savez(part, **arrays)  # type: ignore[arg-type]
  part.replace(path)


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
