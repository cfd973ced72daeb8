"""JPEG's loss of quality: YCbCr, cosine transform of 8 x 8 blocks, quantisation; writes no file."""

import jax.numpy as jnp
import numpy as np

# Quantisation steps of ITU-T T.81, annex K.
_LUMA = """
  16 11 10 16  24  40  51  61    12 12 14 19  26  58  60  55
  14 13 16 24  40  57  69  56    14 17 22 29  51  87  80  62
  18 22 37 56  68 109 103  77    24 35 55 64  81 104 113  92
  49 64 78 87 103 121 120 101    72 92 95 98 112 100 103  99"""
_CHROMA = """
  17 18 24 47 99 99 99 99    18 21 26 66 99 99 99 99
  24 26 56 99 99 99 99 99    47 66 99 99 99 99 99 99
  99 99 99 99 99 99 99 99    99 99 99 99 99 99 99 99
  99 99 99 99 99 99 99 99    99 99 99 99 99 99 99 99"""
_BASE = np.array([t.split() for t in (_LUMA, _CHROMA)], np.float64).reshape(2, 8, 8)

# ITU-R BT.601 as used by JFIF: rows Y, Cb, Cr of R, G, B.
_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def tables(quality: float) -> np.ndarray:
  """Return the steps [2, 8, 8] of luma and chroma for a quality of 1 to 100, as in libjpeg."""
  scale = 5000 // quality if quality < 50 else 200 - 2 * quality
  return np.floor((_BASE * scale + 50) / 100).clip(1, 255).astype(np.float32)


def cosines() -> np.ndarray:
  """Return the orthonormal discrete cosine transform [8, 8]; rows are frequencies."""
  k, n = np.arange(8)[:, None], np.arange(8)[None]
  return np.cos(np.pi * (2 * n + 1) * k / 16) * np.sqrt(np.where(k == 0, 1, 2) / 8)


def compress(x_BHWC, quality, tables_2KK):
  """Return images in [0, 1] after compression; channels are grey images unless there are three."""
  del quality  # the tables contain it
  _, height, width, channels = x_BHWC.shape
  colour = channels == 3
  x_BHWC = _mix(x_BHWC * 255, _YCBCR) if colour else x_BHWC * 255
  level_C = np.array([128, 0, 0] if colour else [128] * channels, np.float32)
  steps_CKK = tables_2KK[np.array([0, 1, 1] if colour else [0] * channels)]
  blocks = _blocks(x_BHWC - level_C[None, None, None])
  coefficients = _both_axes(cosines(), blocks)
  steps = steps_CKK.transpose(1, 2, 0)[None, None, :, None]
  blocks = _both_axes(cosines().T, jnp.round(coefficients / steps) * steps)
  size, rows, _, columns, _, _ = blocks.shape
  x_BHWC = blocks.reshape(size, rows * 8, columns * 8, channels)[:, :height, :width]
  x_BHWC += level_C[None, None, None]
  return (_mix(x_BHWC, np.linalg.inv(_YCBCR)) if colour else x_BHWC) / 255


def _mix(x_BHWC, matrix):
  return jnp.einsum('bhwc,dc->bhwd', x_BHWC, matrix.astype(np.float32), precision='highest')


def _blocks(x_BHWC):
  """Return [B, H / 8, 8, W / 8, 8, C] of [B, H, W, C]; edge pixels fill up the last blocks."""
  size, height, width, channels = x_BHWC.shape
  x_BHWC = jnp.pad(x_BHWC, [(0, 0), (0, -height % 8), (0, -width % 8), (0, 0)], mode='edge')
  return x_BHWC.reshape(size, -(-height // 8), 8, -(-width // 8), 8, channels)


def _both_axes(matrix, blocks):
  """Apply the matrix to the rows and the columns of every block."""
  matrix = matrix.astype(np.float32)
  return jnp.einsum('ki,bricjn,lj->brkcln', matrix, blocks, matrix, precision='highest')
