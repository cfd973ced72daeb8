"""Which part of an image a network sees: its middle, or a random one at every step."""

import functools

import numpy as np

_TRIES = 10  # for a random window that fits into the image
Box = tuple[float, float, float, float]  # left, upper, right, lower


def crops(*, crop_area: float = 0.0) -> float:
  """The setting of random crops.

  Args:
    crop_area: a training image shows a random part of its file, at least so much of its area, in
      proportions of 3/4 to 4/3, resized to the size of all (see random_window); 0: the middle.
  """
  if not 0 <= crop_area <= 1:
    raise ValueError(f'augment.crop_area={crop_area} is a share of the area, in [0, 1]; 0: no crop')
  return crop_area


def central_window(size: tuple[int, int], form, share: float = 1.0) -> Box:
  """The middle of an image of this width and height, in the proportions of `form` (H, W, C)."""
  scale = share * min(size[0] / form[1], size[1] / form[0])
  width, height = form[1] * scale, form[0] * scale
  left, upper = (size[0] - width) / 2, (size[1] - height) / 2
  return left, upper, left + width, upper + height


def random_window(size: tuple[int, int], form, area: float, uniform_4T) -> Box:
  """A random part of an image, of `area` of it to all of it, in proportions of 3/4 to 4/3.

  The random resized crop that ImageNet networks are trained with (Szegedy et al., arXiv 1409.4842).
  uniform_4T, U(0, 1), holds area, proportions and both places of every try; where none fits into
  the image its central window is taken.
  """
  for share, proportion, across, down in np.transpose(uniform_4T):
    pixels = size[0] * size[1] * (area + share * (1 - area))
    ratio = form[1] / form[0] * (3 / 4) ** (1 - 2 * proportion)
    width, height = round((pixels * ratio) ** 0.5), round((pixels / ratio) ** 0.5)
    if 0 < width <= size[0] and 0 < height <= size[1]:
      left, upper = int(across * (size[0] - width + 1)), int(down * (size[1] - height + 1))
      return left, upper, left + width, upper + height
  return central_window(size, form)


def random_windows(form, area: float, count: int, seed) -> list:
  """A window for each of `count` images of a batch; the same seed draws the same."""
  uniform = np.random.RandomState(seed).random_sample((count, 4, _TRIES))
  return [functools.partial(random_window, form=form, area=area, uniform_4T=u) for u in uniform]
