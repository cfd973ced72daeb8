"""Windows: the part of an image that a network sees, the centre or a random part per step."""

import functools

import numpy as np

_TRIES = 10  # random windows that are tried before the central one is taken
Box = tuple[float, float, float, float]  # left, upper, right, lower


def crops(*, crop_area: float = 0.0) -> float:
  """Return the checked setting of random crops.

  Args:
    crop_area: the least share of an image's area that a training example shows: a random part in
      proportions of 3/4 to 4/3 is cut out of the file at every step and resized (see
      random_window). 0: the central window.
  """
  if not 0 <= crop_area <= 1:
    raise ValueError(
      f"augment.crop_area={crop_area} must lie in [0, 1]: the least share of an image's area; 0 "
      'turns random crops off'
    )
  return crop_area


def central_window(size: tuple[int, int], form, share: float = 1.0) -> Box:
  """Return the centre of an image (width, height) in the proportions of `form` (H, W, C)."""
  scale = share * min(size[0] / form[1], size[1] / form[0])
  width, height = form[1] * scale, form[0] * scale
  left, upper = (size[0] - width) / 2, (size[1] - height) / 2
  return left, upper, left + width, upper + height


def random_window(size: tuple[int, int], form, area: float, uniform_4T) -> Box:
  """Return a random part of an image: a share of `area` to 1, in proportions of 3/4 to 4/3.

  This is the random resized crop of ImageNet training (Szegedy et al., arXiv 1409.4842).
  uniform_4T, U(0, 1), holds the share, the proportions and the position of every try. If no try
  fits into the image, the central window is returned.
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
  """Return a function (width, height) -> box for each of `count` images; `seed` decides them."""
  uniform = np.random.RandomState(seed).random_sample((count, 4, _TRIES))
  return [functools.partial(random_window, form=form, area=area, uniform_4T=u) for u in uniform]
