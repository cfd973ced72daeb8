"""Corruptions: ranges and order; closed forms, slow loops in SciPy, a real JPEG encoder."""

import io

import numpy as np
import PIL.Image
import pytest
from scipy import fft, ndimage

from ensdistill.data import shift
from ensdistill.data.images import jpeg

SHAPES = [(8, 8, 1), (11, 14, 3)]
RANDOM = {
  'gaussian_noise',
  'shot_noise',
  'impulse_noise',
  'motion_blur',
  'rotation',
  'translation',
}


def photographs(size=40, shape=(8, 8, 1), seed=0):
  """Return smooth images, with similar neighbouring pixels like photographs."""
  random = np.random.default_rng(seed)
  x = ndimage.gaussian_filter(random.standard_normal((size, *shape)), (0, 1.2, 1.2, 0))
  low, high = x.min((1, 2, 3), keepdims=True), x.max((1, 2, 3), keepdims=True)
  return ((x - low) / (high - low)).astype(np.float32)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('name', shift.SHIFTS)
def test_severity_grows_within_bounds(name, shape):
  x = photographs(shape=shape)
  np.testing.assert_array_equal(shift.apply(name, 0, x), x)
  changes = []
  for severity in shift.SEVERITIES:
    y = shift.apply(name, severity, x, seed=1)
    assert y.dtype == np.float32 and y.shape == x.shape
    assert 0 <= y.min() and y.max() <= 1
    changes.append(((y - x) ** 2).mean())
  assert 0 < changes[0] and (np.diff(changes) > 0).all(), changes


@pytest.mark.parametrize('name', shift.SHIFTS)
def test_deterministic_by_seed_for_any_number_of_examples(name, monkeypatch):
  x = photographs()
  once = shift.apply(name, 3, x, seed=5)
  np.testing.assert_array_equal(shift.apply(name, 3, x, seed=5), once)
  other = shift.apply(name, 3, x, seed=6)
  assert (np.abs(other - once).max() > 0) == (name in RANDOM)
  monkeypatch.setattr(shift, '_BLOCK', 16 * x[0].size)  # 40 examples as 16 + 16 + 8
  blocks = shift.apply(name, 3, x, seed=5)
  np.testing.assert_allclose(blocks, once, atol=1e-5)
  np.testing.assert_array_equal(shift.apply(name, 3, x[:20], seed=5), blocks[:20])


def test_stored_bytes_are_the_same_images():
  x = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
  floats = (x / np.float32(255)).astype(np.float32)
  for name in ('gaussian_noise', 'contrast'):
    np.testing.assert_array_equal(shift.apply(name, 2, x), shift.apply(name, 2, floats))
  assert shift.apply('contrast', 0, x).max() <= 1


def test_noises_have_their_stated_moments():
  grey = np.full((50, 16, 16, 1), 0.5, np.float32)
  assert shift.apply('gaussian_noise', 1, grey).std() == pytest.approx(0.08, rel=0.03)
  shot = shift.apply('shot_noise', 1, grey)
  assert shot.var() == pytest.approx(0.5 / 60, rel=0.05)
  assert shot.mean() == pytest.approx(0.5, abs=0.005)
  np.testing.assert_allclose(shot * 60, np.rint(shot * 60), atol=1e-4)
  hit = shift.apply('impulse_noise', 5, grey)
  assert (hit == 0).mean() == pytest.approx(0.27 / 2, rel=0.06)
  assert (hit == 1).mean() == pytest.approx(0.27 / 2, rel=0.06)
  assert ((hit == 0) | (hit == 1) | (hit == 0.5)).all()


def test_brightness_and_contrast():
  x = photographs(shape=(9, 7, 3))
  np.testing.assert_allclose(shift.apply('brightness', 2, x), np.minimum(x + 0.2, 1), atol=1e-6)
  y = shift.apply('contrast', 3, x)
  np.testing.assert_allclose(y.mean((1, 2)), x.mean((1, 2)), atol=1e-6)
  np.testing.assert_allclose(y.std((1, 2)), 0.2 * x.std((1, 2)), rtol=1e-4)


def test_severities_share_their_draws():
  x = np.full((4, 8, 8, 1), 0.5, np.float32)
  weak, strong = (shift.apply('gaussian_noise', s, x) - 0.5 for s in (1, 2))
  np.testing.assert_allclose(strong, weak * 1.5, atol=1e-6)


def moved(image_HWC, down, right):
  """Return the image moved by these offsets, linear between pixels, mirrored outside."""
  height, width, channels = image_HWC.shape
  rows, columns = np.mgrid[:height, :width].astype(float)
  at = np.stack([rows - down, columns - right])
  planes = [
    ndimage.map_coordinates(image_HWC[..., c], at, order=1, mode='reflect') for c in range(channels)
  ]
  return np.stack(planes, -1)


def test_defocus_is_the_mean_over_a_disk():
  x = photographs(2, (12, 10, 3))
  n = np.arange(128)
  radius, angle = 0.07 * 10 * np.sqrt((n + 0.5) / 128), n * np.pi * (3 - 5**0.5)
  points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], -1)
  assert np.abs(points.mean(0)).max() < 0.02  # about the centre
  for image, blurred in zip(x, shift.apply('defocus_blur', 4, x)):
    expected = np.mean([moved(image, *p) for p in points], 0)
    np.testing.assert_allclose(blurred, expected, atol=2e-6)


def test_motion_is_the_mean_along_a_line():
  x = photographs(2, (10, 12, 1))
  blurred = shift.apply('motion_blur', 5, x, seed=2)
  along = 0.3 * 10 * np.linspace(-0.5, 0.5, 2 * 3 + 3)
  for image, result in zip(x, blurred):
    angles = np.linspace(0, np.pi, 121)
    errors = [
      np.abs(result - np.mean([moved(image, a * np.sin(t), a * np.cos(t)) for a in along], 0)).max()
      for t in angles
    ]
    assert min(errors) < 0.01 < np.median(errors)  # in one direction, to a degree or so


def test_blurs_keep_constant_images():
  flat = np.full((3, 9, 13, 3), 0.3, np.float32)
  for name in ('defocus_blur', 'motion_blur', 'pixelate'):
    np.testing.assert_allclose(shift.apply(name, 5, flat), flat, atol=1e-6)


def test_pixelate_draws_blocks_of_means():
  x = photographs(5, (8, 8, 1))
  means = x.reshape(5, 4, 2, 4, 2, 1).mean((2, 4))
  expected = means.repeat(2, 1).repeat(2, 2)
  np.testing.assert_allclose(shift.apply('pixelate', 3, x), expected, atol=1e-6)


def test_rotation_turns_either_way():
  x = photographs(12, (9, 9, 1))
  x[:, :2] = x[:, -2:] = x[:, :, :2] = x[:, :, -2:] = 0  # corners turn out of the image
  seen = set()
  for image, turned in zip(x, shift.apply('rotation', 3, x)):
    errors = {
      sign: np.abs(ndimage.rotate(image, 24 * sign, reshape=False, order=1) - turned).max()
      for sign in (1, -1)
    }
    sign = min(errors, key=errors.get)
    assert errors[sign] < 1e-4
    seen.add(sign)
  assert seen == {1, -1}


def test_translation_is_cyclic_by_whole_pixels():
  x = photographs(60, (16, 16, 1))
  distances = []
  for image, result in zip(x, shift.apply('translation', 4, x)):
    matches = [
      (down, right)
      for down in range(-5, 6)
      for right in range(-5, 6)
      if np.array_equal(np.roll(image, (down, right), (0, 1)), result)
    ]
    assert len(matches) == 1
    distances.append(np.abs(matches[0]))
  assert set(np.ravel(distances)) == {4}  # a quarter of 16: nothing to round
  small = photographs(200, (8, 8, 1))
  still = (shift.apply('translation', 1, small) == small).all((1, 2, 3)).mean()
  assert still == pytest.approx(1 / 4, abs=0.1)  # half a pixel: rounded down on both axes


def test_cosines_are_the_transform():
  x = np.random.default_rng(0).random((8, 8))
  ours = jpeg.cosines() @ x @ jpeg.cosines().T
  np.testing.assert_allclose(ours, fft.dctn(x, norm='ortho'), atol=1e-12)


@pytest.mark.parametrize(
  'mode, shape', [('L', (16, 24, 1)), ('RGB', (24, 16, 3)), ('L', (13, 9, 1))]
)
def test_jpeg_equals_an_encoder(mode, shape):
  x = (photographs(6, shape) * 255).round().astype(np.uint8)
  theirs = []
  for image in x:
    file = io.BytesIO()
    PIL.Image.fromarray(image.squeeze()).save(file, 'jpeg', quality=18, subsampling=0)
    theirs.append(np.asarray(PIL.Image.open(file).convert(mode)).reshape(shape))
  ours = shift.apply('jpeg', 2, x) * 255
  # Out of 255. The encoder rounds to bytes in between, which changes a few coefficients.
  difference = np.abs(ours - np.stack(theirs)).mean((1, 2, 3))
  assert np.median(difference) < 1 and difference.max() < 3
  assert np.abs(x - ours).mean() > 6


def test_refusals():
  x = photographs(2)
  with pytest.raises(ValueError, match="unknown shift 'gausian_noise': did you mean 'gaussian_no"):
    shift.apply('gausian_noise', 1, x)
  with pytest.raises(ValueError, match='severity 6 of contrast must be 0'):
    shift.apply('contrast', 6, x)
  with pytest.raises(ValueError, match='corrupts images'):
    shift.apply('contrast', 1, x[:, 0, 0])
