"""Augmentation, compared with loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ensdistill.config import recipes
from ensdistill.data import augment

turn = jax.jit(augment.turn)
turn_and_crop = jax.jit(augment.turn_and_crop, static_argnames=('crop', 'pad'))


def photos(size=6, height=7, width=9, channels=3, seed=0):
  return np.random.RandomState(seed).rand(size, height, width, channels).astype(np.float32)


def run(key, x, **settings):
  return np.asarray(jax.jit(augment.make(**settings))(jax.random.key(key), jnp.asarray(x)))


def pixel(image, i, j, pad):
  """Return the pixel at integer coordinates, reflected step by step or zero outside."""
  height, width, channels = image.shape
  if pad == 'zero':
    inside = 0 <= i < height and 0 <= j < width
    return image[i, j] if inside else np.zeros(channels, np.float32)
  while not 0 <= i < height:
    i = -i if i < 0 else 2 * (height - 1) - i
  while not 0 <= j < width:
    j = -j if j < 0 else 2 * (width - 1) - j
  return image[i, j]


@pytest.mark.parametrize('pad', augment.PADS)
def test_shift_equals_a_loop(pad):
  x = photos()
  down, right = np.array([0, 2, -3, 6, -1, 1]), np.array([0, -4, 3, 1, 5, -8])
  ours = jax.jit(augment.shift, static_argnames='pad')(x, down, right, pad=pad)
  slow = np.zeros_like(x)
  for b in range(6):
    for i in range(7):
      for j in range(9):
        slow[b, i, j] = pixel(x[b], i + down[b], j + right[b], pad)
  np.testing.assert_array_equal(ours, slow)


@pytest.mark.parametrize('pad', augment.PADS)
def test_a_crop_is_a_window_of_numpys_padded_image(pad):
  x = photos(40)
  ours = run(0, x, crop=2, pad=pad)
  mode = {'zero': 'constant', 'reflect': 'reflect'}[pad]
  padded = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)], mode=mode)
  windows = set()
  for b in range(40):
    found = [
      (i, j)
      for i in range(5)
      for j in range(5)
      if (padded[b, i : i + 7, j : j + 9] == ours[b]).all()
    ]
    assert len(found) == 1
    windows.add(found[0])
  # Examples are drawn one by one, and both ends of the range are reached.
  assert len(windows) > 12
  for axis in (0, 1):
    assert {window[axis] for window in windows} == set(range(5))


def test_turn_equals_a_loop():
  x = photos(3)
  angles = np.deg2rad([0.0, 15.0, -40.0])
  ours = turn(x, angles.astype(np.float32))
  slow = np.zeros_like(x)
  for b, angle in enumerate(angles):
    for i in range(7):
      for j in range(9):
        row = (i - 3) * np.cos(angle) + (j - 4) * np.sin(angle) + 3
        column = (j - 4) * np.cos(angle) - (i - 3) * np.sin(angle) + 4
        top, left = int(np.floor(row)), int(np.floor(column))
        for p in (0, 1):
          for q in (0, 1):
            weight = (1 - abs(row - top - p)) * (1 - abs(column - left - q))
            slow[b, i, j] += weight * pixel(x[b], top + p, left + q, 'zero')
  np.testing.assert_allclose(ours, slow, atol=2e-6)


def test_a_quarter_turn_is_numpys():
  x = photos(2, 8, 8)
  quarter = np.full(2, np.pi / 2, np.float32)
  for turned in (turn(x, quarter)[:, 1:-1, 1:-1], turn_and_crop(x, quarter, crop=0, pad='zero')):
    expected = np.rot90(x, axes=(1, 2))
    expected = expected[:, 1:-1, 1:-1] if turned.shape[1] == 6 else expected
    np.testing.assert_allclose(turned, expected, atol=2e-5)


@pytest.mark.parametrize('crop', [0, 2, 4])
@pytest.mark.parametrize('pad', augment.PADS)
def test_turn_and_crop_is_pillows_rotation_of_numpys_padded_image(pad, crop):
  x = photos(5, seed=3)
  angles = np.array([0.0, 15.0, -14.3, 7.7, -31.0])
  down, right = np.array([0, -1, 1, 1, -1]) * crop, np.array([0, 1, 1, -1, -1]) * (crop // 2)
  ours = turn_and_crop(
    x, np.deg2rad(angles).astype(np.float32), np.stack([down, right], -1), crop=crop, pad=pad
  )
  mode = {'zero': 'constant', 'reflect': 'reflect'}[pad]
  for b in range(5):
    for channel in range(3):
      padded = Image.fromarray(np.pad(x[b, :, :, channel], crop, mode=mode))
      turned = np.asarray(padded.rotate(angles[b], resample=Image.Resampling.BICUBIC))
      top, left = crop + down[b], crop + right[b]
      expected = turned[top : top + 7, left : left + 9].clip(0, 1)
      np.testing.assert_allclose(ours[b, :, :, channel], expected, atol=1e-5)


def test_a_rotation_without_an_angle_is_the_crop_alone():
  x = photos(20)
  for pad in augment.PADS:
    still = run(4, x, crop=2, pad=pad, rotate=1e-6)
    np.testing.assert_allclose(still, run(4, x, crop=2, pad=pad), atol=1e-5)


def test_rotation_stays_within_its_angles():
  # A point to the right of the centre; its new position gives the angle.
  x = np.zeros((200, 41, 41, 1), np.float32)
  x[:, 19:22, 37:40] = 1
  turned = run(1, x, rotate=15.0)[..., 0]
  mass = turned.sum((1, 2))
  rows = (turned * np.arange(41)[None, :, None]).sum((1, 2)) / mass - 20
  columns = (turned * np.arange(41)[None, None]).sum((1, 2)) / mass - 20
  angles = np.rad2deg(np.arctan2(-rows, columns))
  assert np.abs(angles).max() < 15.5
  assert angles.min() < -13 and angles.max() > 13 and abs(angles.mean()) < 2


def test_flip_mirrors_about_half_of_the_examples():
  x = photos(400)
  flipped = run(2, x, flip=True)
  same = (flipped == x).all((1, 2, 3))
  mirrored = (flipped == x[:, :, ::-1]).all((1, 2, 3))
  assert (same ^ mirrored).all()
  assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize('size', [1, 4, 5])
def test_cut_out_equals_a_loop(size):
  x = photos(5) + 1
  rows, columns = np.array([0, 3, 6, 2, 5]), np.array([0, 4, 8, 7, 1])
  slow = x.copy()
  for b in range(5):
    for i in range(7):
      for j in range(9):
        top, left = rows[b] - size // 2, columns[b] - size // 2
        if top <= i < top + size and left <= j < left + size:
          slow[b, i, j] = 0
  ours = jax.jit(augment.cut_out, static_argnums=3)(x, rows, columns, size)
  np.testing.assert_array_equal(ours, slow)


def test_cut_out_reaches_every_pixel_and_only_its_square():
  x = jnp.ones((500, 7, 9, 1))
  holes = 1 - run(0, x, cutout=3)
  assert (holes.sum(0) > 0).all()
  assert holes.sum((1, 2, 3)).max() == 9 and holes.sum((1, 2, 3)).min() == 4  # cut at a corner


def test_mixing_equals_a_loop():
  x, y = photos(5), np.array([3, 1, -1, 0, 2], np.int32)
  stored = np.arange(5)
  batch = jax.jit(augment.mixing(mixup=0.4))(jax.random.key(3), {'x': x, 'y': y, 'stored': stored})
  share = float(batch['share'][0])
  assert batch['share'].shape == (5,) and 0 < share < 1
  for b in range(5):
    other = b - 1 if b else 4
    expected = share * x[b] + (1 - share) * x[other]
    np.testing.assert_allclose(batch['x'][b], expected, atol=1e-6)
    assert (batch['y'][b], batch['y_other'][b]) == (y[b], y[other])
  np.testing.assert_array_equal(batch['share'], np.full(5, share, np.float32))
  np.testing.assert_array_equal(batch['stored'], stored)
  assert float(batch['x'].min()) >= 0 and float(batch['x'].max()) <= 1


@pytest.mark.parametrize('alpha', [0.2, 1.0])
def test_shares_of_a_mixture_are_beta(alpha):

  def draw(key):
    return augment.mixing(mixup=alpha)(key, {'x': jnp.ones((2, 1)), 'y': jnp.ones(2)})

  shares = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 4000))['share'][:, 0]
  np.testing.assert_allclose(shares.mean(), 0.5, atol=0.03)
  np.testing.assert_allclose(shares.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.06)


def test_deterministic_by_key_float32_within_bounds_and_the_same_for_each_member():
  x = jnp.asarray(photos())
  everything = jax.jit(augment.make(crop=2, pad='reflect', flip=True, cutout=3, rotate=10.0))
  keys = jax.random.split(jax.random.key(0), 2)
  first = everything(keys[0], x)
  assert first.dtype == jnp.float32 and first.shape == x.shape
  np.testing.assert_array_equal(first, everything(keys[0], x))
  assert np.abs(first - everything(keys[1], x)).max() > 0.1
  assert float(first.min()) >= 0 and float(first.max()) <= 1 + 1e-6
  members = jax.jit(jax.vmap(everything, in_axes=(0, None)))(keys, x)
  for member, key in zip(members, keys):
    np.testing.assert_allclose(member, everything(key, x), atol=1e-6)


def test_no_augmentation_is_none_and_wrong_settings_are_refused():
  assert augment.make() is None
  assert augment.make(pad='reflect') is None
  assert augment.mixing() is None
  with pytest.raises(ValueError, match="'reflct': did you mean 'reflect'"):
    augment.make(crop=4, pad='reflct')
  with pytest.raises(ValueError, match='augment.crop=-1'):
    augment.make(crop=-1)
  with pytest.raises(ValueError, match='augment.mixup=-1'):
    augment.mixing(mixup=-1.0)
  with pytest.raises(ValueError, match='augment.crop=7 with reflection'):
    augment.make(crop=7, pad='reflect')(jax.random.key(0), jnp.asarray(photos()))


@pytest.mark.parametrize('method', ['end2', 'end2_aux', 'end2_tdiv', 'pn'])
def test_the_augmentation_of_end2_is_its_papers(method):
  """It has crops from 4 reflected pixels, rotations up to 15 degrees and flips only."""
  for variant in ('', 'small'):
    config = recipes.make(method, 'cifar10', variant)
    found = {name: value for name, value in config.augment.items() if value is not None}
    assert found == {'crop': 4, 'pad': 'reflect', 'rotate': 15.0, 'flip': True}
    assert config.network.name == 'vgg'
