"""Images converted to another shape: compared with loops and Pillow."""

import numpy as np
import PIL.Image
import pytest

from ensdistill.data.images import sizes


def slow_resize(image, height, width):
  """Compute each new pixel by its definition, one axis after the other."""

  def along_rows(image, new):
    old = image.shape[0]
    out = np.zeros((new, *image.shape[1:]))
    for p in range(new):
      if new <= old:
        low, high = p * old / new, (p + 1) * old / new
        for i in range(old):
          out[p] += max(0, min(high, i + 1) - max(low, i)) / (high - low) * image[i]
      else:
        centre = min(max((p + 0.5) * old / new - 0.5, 0), old - 1)
        i = min(int(centre), old - 2)
        out[p] = (1 - (centre - i)) * image[i] + (centre - i) * image[i + 1]
    return out

  across = along_rows(image.astype(float), height)
  return np.swapaxes(along_rows(np.swapaxes(across, 0, 1), width), 0, 1)


@pytest.mark.parametrize('shape', [(4, 4), (7, 3), (28, 28), (32, 20), (9, 40), (28, 8)])
def test_resize_equals_a_loop(shape):
  x = np.random.RandomState(0).rand(3, 28, 20, 2).astype(np.float32)
  ours = sizes.resize(x, *shape)
  assert ours.dtype == np.float32
  np.testing.assert_allclose(ours, [slow_resize(a, *shape) for a in x], atol=2e-6)


def test_resize_is_pillows_box_for_whole_factors_and_bilinear_upwards():
  x = np.random.RandomState(1).randint(0, 256, (2, 32, 32, 3), dtype=np.uint8)
  for size, method in ((8, PIL.Image.Resampling.BOX), (16, PIL.Image.Resampling.BOX)):
    theirs = [np.asarray(PIL.Image.fromarray(a).resize((size, size), method)) for a in x]
    ours = sizes.resize(x, size, size)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - np.array(theirs, int)).max() <= 1
  bilinear = PIL.Image.Resampling.BILINEAR
  theirs = [np.asarray(PIL.Image.fromarray(a).resize((48, 40), bilinear)) for a in x]
  assert np.abs(sizes.resize(x, 40, 48).astype(int) - np.array(theirs, int)).max() <= 1


def test_many_images_are_resized_in_blocks():
  x = np.random.RandomState(2).rand(2500, 4, 4, 1).astype(np.float32)
  resized = sizes.resize(x, 2, 2)
  np.testing.assert_allclose(resized, x.reshape(2500, 2, 2, 2, 2, 1).mean((2, 4)), atol=1e-6)


def test_channels():
  colour = np.random.RandomState(3).randint(0, 256, (2, 5, 5, 3), dtype=np.uint8)
  theirs = [np.asarray(PIL.Image.fromarray(a).convert('L'), int) for a in colour]
  grey = sizes.convert(colour, 1)
  assert grey.dtype == np.uint8
  assert np.abs(grey[..., 0].astype(int) - np.array(theirs)).max() <= 1
  np.testing.assert_array_equal(sizes.convert(grey, 3), np.concatenate([grey] * 3, -1))
  with_alpha = np.concatenate([colour, colour[..., :1]], -1)
  np.testing.assert_array_equal(sizes.convert(with_alpha, 3), colour)
  np.testing.assert_array_equal(sizes.convert(with_alpha, 1), grey)
  assert sizes.convert(colour, 3) is colour
  with pytest.raises(ValueError, match='3 channels cannot be converted to 2 channels'):
    sizes.convert(colour, 2)


def test_dtypes_there_and_back():
  x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  as_float = sizes.as_dtype(x, np.float32)
  assert as_float.dtype == np.float32 and as_float.min() == 0 and as_float.max() == 1
  np.testing.assert_array_equal(sizes.as_dtype(as_float, np.uint8), x)
  assert sizes.as_dtype(x, np.uint8) is x


def test_fit_does_channels_and_size():
  x = np.random.RandomState(4).randint(0, 256, (3, 28, 28, 1), dtype=np.uint8)
  fitted = sizes.fit(x, (32, 32, 3))
  assert fitted.shape == (3, 32, 32, 3) and fitted.dtype == np.uint8
  np.testing.assert_array_equal(fitted[..., 0], fitted[..., 2])
