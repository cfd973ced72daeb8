"""Corruptions of images in five severities, for evaluation under distribution shift.

Images have any size and are grey or colour. Lengths are fractions of the smaller side, so that
small and large images are corrupted alike. Random numbers are drawn on the host by (seed, kind) and
are the same at every severity; the rest is one compiled program per kind and shape.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import names
from ensdistill.data import augment
from ensdistill.data.dataset import as_input
from ensdistill.data.images import jpeg, sizes

SEVERITIES = (1, 2, 3, 4, 5)
_BLOCK = 1 << 22  # numbers that are corrupted together; bounds the memory


def _no_draw(random, x_BHWC, strength):
  del random, x_BHWC, strength


@dataclasses.dataclass(frozen=True)
class Shift:
  """A kind of corruption.

  corrupt(x_BHWC, strength, drawn) runs on the device. draw(random, x_BHWC, strength) -> drawn runs
  on the host, example by example, so that more examples never change the first ones.
  """

  strengths: tuple[float, ...]  # one per severity
  corrupt: Callable
  draw: Callable = _no_draw


def apply(name: str, severity: int, x: np.ndarray, seed: int = 0) -> np.ndarray:
  """Return corrupted images [N, H, W, C] as float32 in [0, 1]; severity 0 changes nothing."""
  shift = names.lookup('shift', name, SHIFTS)
  if severity not in (0, *SEVERITIES):
    raise ValueError(f'severity {severity} of {name} must be 0 (no change) to 5')
  x = np.asarray(x)
  if x.ndim != 4:
    raise ValueError(f'{name} corrupts images [N, H, W, C], not inputs of shape {x.shape[1:]}')
  if severity == 0 or not len(x):
    return np.asarray(as_input(x))
  strength = np.float32(shift.strengths[severity - 1])
  random = np.random.default_rng([seed, zlib.crc32(name.encode())])
  size = min(len(x), max(1, _BLOCK // x[0].size))
  blocks = []
  for start in range(0, len(x), size):
    block = x[start : start + size]
    padding = [(0, size - len(block))] + [(0, 0)] * 3
    padded = sizes.as_dtype(np.pad(block, padding, 'edge'), np.float32)
    corrupted = _run(name, padded, strength, shift.draw(random, padded, strength))
    blocks.append(np.asarray(corrupted)[: len(block)])
  return np.concatenate(blocks)


@functools.partial(jax.jit, static_argnums=0)
def _run(name: str, x_BHWC, strength, drawn: Any):
  return SHIFTS[name].corrupt(x_BHWC, strength, drawn).clip(0, 1)


def _contrast(x_BHWC, strength, _):
  mean_B11C = x_BHWC.mean((1, 2), keepdims=True)
  return mean_B11C + strength * (x_BHWC - mean_B11C)


def _add_noise(x_BHWC, strength, normal_BHWC):
  return x_BHWC + strength * normal_BHWC


def _count_photons(x_BHWC, strength, photons_BHWC):
  del x_BHWC  # the mean of the photons
  return photons_BHWC / strength


def _brighten(x_BHWC, strength, _):
  return x_BHWC + strength


def _impulses(x_BHWC, strength, uniform_BHWC):
  """Set a share of the numbers to black or white, with equal probability."""
  salted_BHWC = jnp.where(uniform_BHWC > 1 - strength / 2, 1, x_BHWC)
  return jnp.where(uniform_BHWC < strength / 2, 0, salted_BHWC)


def _defocus(x_BHWC, strength, _):
  """Average over a disk, by points that cover it evenly (a sunflower's seeds)."""
  n_P = np.arange(128)
  radius_P, angle_P = np.sqrt((n_P + 0.5) / len(n_P)), n_P * (np.pi * (3 - 5**0.5))
  scale = strength * min(x_BHWC.shape[1:3])
  down_BP, right_BP = (scale * (radius_P * f(angle_P))[None] for f in (np.sin, np.cos))
  return _blur(x_BHWC, down_BP, right_BP, SHIFTS['defocus_blur'].strengths[-1])


def _motion(x_BHWC, strength, angle_B):
  """Average along a line through the pixel, in a direction drawn per image."""
  length = SHIFTS['motion_blur'].strengths[-1] * min(x_BHWC.shape[1:3])
  along_P = np.linspace(-0.5, 0.5, 2 * int(np.ceil(length)) + 3)
  scale = strength * min(x_BHWC.shape[1:3])
  down_BP, right_BP = (scale * f(angle_B)[:, None] * along_P[None] for f in (jnp.sin, jnp.cos))
  return _blur(x_BHWC, down_BP, right_BP, SHIFTS['motion_blur'].strengths[-1] / 2)


def _blur(x_BHWC, down_BP, right_BP, farthest: float):
  """Average the image moved by these offsets, linear between pixels, mirrored at the border.

  `farthest` is the largest offset as a fraction of the smaller side. A Fourier transform applies
  the kernel, so its size costs nothing and every image may have a kernel of its own.
  """
  height, width = x_BHWC.shape[1:3]
  reach = int(np.ceil(farthest * min(height, width))) + 1
  at_I = np.arange(-reach, reach + 1)
  down_BPI, right_BPI = (
    jnp.maximum(0, 1 - jnp.abs(offset_BP[..., None] - at_I[None, None]))
    for offset_BP in (down_BP, right_BP)
  )
  kernel_BII = jnp.einsum('bpi,bpj->bij', down_BPI, right_BPI, precision='highest')
  kernel_BII /= down_BP.shape[1]
  padded = jnp.pad(x_BHWC, [(0, 0), (reach, reach), (reach, reach), (0, 0)], mode='symmetric')
  spectrum = jnp.fft.rfft2(padded, axes=(1, 2))
  spectrum *= jnp.fft.rfft2(kernel_BII, s=padded.shape[1:3], axes=(1, 2))[..., None]
  blurred = jnp.fft.irfft2(spectrum, s=padded.shape[1:3], axes=(1, 2))
  return blurred[:, 2 * reach :, 2 * reach :]


def _coarse(size: int, strength: float) -> np.ndarray:
  """Return the matrix [size, size] that averages pixels into fewer, larger ones."""
  down = sizes.weights(size, max(1, round(size * float(strength))))
  return down.T / down.sum(0)[:, None] @ down


def _pixelate(x_BHWC, _, matrices):
  return jnp.einsum('ph,bhwc,qw->bpqc', matrices[0], x_BHWC, matrices[1], precision='highest')


def _turn(x_BHWC, strength, sign_B):
  return augment.turn(x_BHWC, jnp.deg2rad(strength) * sign_B)


def _translate(x_BHWC, strength, uniform_B2):
  """Move images along both axes, cyclically, by whole pixels; fractions are rounded at random."""
  for axis in (1, 2):
    size, u_B = x_BHWC.shape[axis], uniform_B2[:, axis - 1]
    pixels_B = jnp.sign(u_B) * jnp.floor(strength * size + jnp.abs(u_B))
    index_BI = (jnp.arange(size)[None] - pixels_B.astype(int)[:, None]) % size
    x_BHWC = jnp.take_along_axis(x_BHWC, jnp.expand_dims(index_BI, (3 - axis, 3)), axis)
  return x_BHWC


def _normal(random, x_BHWC, _):
  return random.standard_normal(x_BHWC.shape, np.float32)


def _uniform(random, x_BHWC, _):
  return random.random(x_BHWC.shape, np.float32)


def _photons(random, x_BHWC, strength):
  return random.poisson(x_BHWC * strength).astype(np.float32)


def _angles(random, x_BHWC, _):
  return random.uniform(0, np.pi, len(x_BHWC)).astype(np.float32)


def _signs(random, x_BHWC, _):
  return np.where(random.random(len(x_BHWC)) < 0.5, np.float32(-1), np.float32(1))


def _directions(random, x_BHWC, _):
  return random.uniform(-1, 1, (len(x_BHWC), 2)).astype(np.float32)


def _matrices(random, x_BHWC, strength):
  del random
  return tuple(_coarse(size, strength).astype(np.float32) for size in x_BHWC.shape[1:3])


def _jpeg_tables(random, x_BHWC, quality):
  del random, x_BHWC
  return jpeg.tables(quality)


SHIFTS = {
  # Deviation of the noise; photons of a white pixel; share of changed pixels.
  'gaussian_noise': Shift((0.08, 0.12, 0.18, 0.26, 0.38), _add_noise, _normal),
  'shot_noise': Shift((60, 25, 12, 5, 3), _count_photons, _photons),
  'impulse_noise': Shift((0.03, 0.06, 0.09, 0.17, 0.27), _impulses, _uniform),
  # Radius, length.
  'defocus_blur': Shift((0.02, 0.035, 0.05, 0.07, 0.1), _defocus),
  'motion_blur': Shift((0.06, 0.1, 0.15, 0.2, 0.3), _motion, _angles),
  # Added brightness; remaining share of contrast; remaining share of pixels per side.
  'brightness': Shift((0.1, 0.2, 0.3, 0.4, 0.5), _brighten),
  'contrast': Shift((0.4, 0.3, 0.2, 0.1, 0.05), _contrast),
  'pixelate': Shift((0.75, 0.6, 0.5, 0.375, 0.25), _pixelate, _matrices),
  # Degrees and distance, either way.
  'rotation': Shift((8, 16, 24, 36, 48), _turn, _signs),
  'translation': Shift((1 / 16, 2 / 16, 3 / 16, 4 / 16, 5 / 16), _translate, _directions),
  # Quality.
  'jpeg': Shift((25, 18, 15, 10, 7), jpeg.compress, _jpeg_tables),
}
