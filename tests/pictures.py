"""Image files for tests: a colour per class, a shade of it per example."""

import pathlib

import numpy as np
import PIL.Image


def colour(label: int, number: int = 0) -> np.ndarray:
  """Return a colour: far apart for different labels, two steps of 255 between numbers."""
  return np.array([(60 + 90 * label) % 256, (200 - 70 * label) % 256, (2 * number) % 256])


def write(path: pathlib.Path, value, size=(12, 12), mode: str = 'RGB') -> None:
  """Write an image of one colour; size is (width, height)."""
  path.parent.mkdir(parents=True, exist_ok=True)
  image = PIL.Image.new('RGB', size, tuple(int(v) for v in value)).convert(mode)
  image.save(path, **({'quality': 95} if path.suffix.lower() in ('.jpg', '.jpeg') else {}))


def folder(root: pathlib.Path, counts, size=(12, 12), suffix: str = '.png') -> pathlib.Path:
  """Write ROOT/CLASS/NUMBER.png with `counts` images of each class."""
  for label, count in enumerate(counts):
    for number in range(count):
      path = root / f'class_{label}' / f'{number:03d}{suffix}'
      write(path, colour(label, number), size)
  return root


def tiny_imagenet(root: pathlib.Path, classes: int = 3, train: int = 20, val: int = 6) -> None:
  """Write the layout of Tiny ImageNet: boxes, annotations, and a test part without labels."""
  lines, names = [], [f'n{12345 + label:08d}' for label in range(classes)]
  for label, name in enumerate(names):
    for number in range(train):
      path = root / 'train' / name / 'images' / f'{name}_{number}.JPEG'
      write(path, colour(label, number), (16, 16), 'L' if number == 1 else 'RGB')
    (root / 'train' / name / f'{name}_boxes.txt').write_text('n_0.JPEG\t0\t0\t9\t9\n')
  for number in range(val):
    name = names[number % classes]
    write(root / 'val' / 'images' / f'val_{number}.JPEG', colour(number % classes, 100), (16, 16))
    lines.append(f'val_{number}.JPEG\t{name}\t0\t0\t9\t9\n')
  (root / 'val' / 'val_annotations.txt').write_text(''.join(lines))
  write(root / 'test' / 'images' / 'test_0.JPEG', colour(0), (16, 16))
  (root / 'wnids.txt').write_text('\n'.join(reversed(names)))


def damage(path: pathlib.Path) -> None:
  """Cut a file in half."""
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
