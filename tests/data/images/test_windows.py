"""Windows: the centre of an image and random parts of it."""

import numpy as np
import PIL.Image

from ensdistill import data
from ensdistill.data.images import windows


def test_the_central_window_keeps_proportions(tmp_path):
  x = np.zeros((40, 100, 3), np.uint8)
  x[:, 30:70] = (10, 200, 90)  # the middle square
  x[10:30, 40:60] = 255  # the middle half of it
  (tmp_path / 'a').mkdir()
  PIL.Image.fromarray(x).save(tmp_path / 'a' / 'x.png')
  shapes = {'shape': (20, 20, 3)}
  whole = data.load_inputs(f'folder:{tmp_path}/a', **shapes)[0]
  assert (
    np.abs(whole[1:4, 1:4].astype(int) - [10, 200, 90]).max() == 0 and whole[10, 10].min() == 255
  )
  half = data.load_inputs(f'folder:{tmp_path}/a', central=0.5, **shapes)[0]
  assert half.min() == 255
  grey = data.load_inputs(f'folder:{tmp_path}/a', shape=(20, 20, 1))
  assert grey.shape == (1, 20, 20, 1) and abs(int(grey[0, 2, 2, 0]) - 131) <= 1  # its luma


def test_random_windows_lie_within_and_have_their_shares():
  rng = np.random.RandomState(0)
  for size in ((300, 200), (50, 400), (7, 7)):
    areas, ratios = [], []
    for uniform in rng.random_sample((400, 4, 10)):
      left, upper, right, lower = windows.random_window(size, (32, 32, 3), 0.08, uniform)
      assert 0 <= left < right <= size[0] and 0 <= upper < lower <= size[1]
      areas.append((right - left) * (lower - upper) / size[0] / size[1])
      ratios.append((right - left) / (lower - upper))
    assert 0.05 < min(areas) < 0.2 and max(areas) <= 1
    if size[0] > 100:  # most shares fit
      assert abs(np.mean(areas) - 0.45) < 0.08
      assert 0.7 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.4
  # If no random window fits, the central one is taken.
  assert windows.random_window((10, 1000), (32, 32, 3), 0.9, np.full((4, 10), 0.5)) == (
    windows.central_window((10, 1000), (32, 32, 3))
  )


def test_the_seed_decides_random_windows():
  def draw(seed):
    return [window((90, 60)) for window in windows.random_windows((8, 8, 3), 0.1, 5, seed)]

  assert draw([1, 2]) == draw([1, 2]) != draw([1, 3])
