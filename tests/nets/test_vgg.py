"""The head of a VGG as EnD²'s authors have it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import nets, students
from ensdistill.nets import stack

CIFAR = {'shape': (32, 32, 3), 'mean': (0.5,), 'std': (0.25,)}


def sizes(variables):
  return {path: leaf.size for path, leaf in tiny.leaves(variables['params'])}


def test_parameters_of_the_pooled_head():
  """Convolutions without bias, norms with scale and bias, dense layers with bias."""
  module = students.make('single', nets.build('vgg', head='pooled', **CIFAR), 10).module
  variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  found = sizes(variables)
  # Configuration D: 3 -> 64 -> 64 | 128 -> 128 | 256 x 3 | 512 x 3 | 512 x 3.
  channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
  convolutions = sum(9 * a * b for a, b in zip(channels, channels[1:]))
  norms = 2 * sum(channels[1:])
  dense = (25_088 * 2_048 + 2_048) + (2_048 * 2_048 + 2_048) + (2_048 * 10 + 10)
  assert (convolutions, norms, dense) == (14_710_464, 8_448, 55_599_114)
  assert sum(found.values()) == convolutions + norms + dense == 70_318_026
  assert found['dense0', 'dense', 'kernel'] == 49 * 512 * 2_048
  # The other head sees the one pixel of 512 channels.
  module = students.make('single', nets.build('vgg', head='flat', **CIFAR), 10).module
  variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  assert sum(sizes(variables).values()) == 70_318_026 - 48 * 512 * 2_048


@pytest.mark.parametrize('height, width, size', [(1, 1, 7), (2, 5, 7), (7, 7, 7), (9, 15, 7)])
def test_adaptive_means_are_those_of_pytorchs_windows(height, width, size):
  x = np.random.default_rng(0).normal(size=(2, 3, height, width, 4)).astype(np.float32)
  expected = np.zeros((2, 3, size, size, 4))
  for i in range(size):
    for j in range(size):
      top, bottom = int(np.floor(i * height / size)), int(np.ceil((i + 1) * height / size))
      left, right = int(np.floor(j * width / size)), int(np.ceil((j + 1) * width / size))
      expected[:, :, i, j] = x[:, :, top:bottom, left:right].astype(np.float64).mean((2, 3))
  found = stack.adaptive_mean(x, size)
  assert found.shape == expected.shape and found.dtype == jnp.float32
  np.testing.assert_allclose(found, expected, atol=1e-6)
  if height == width == 1:
    np.testing.assert_array_equal(found, np.broadcast_to(x, expected.shape))


@pytest.mark.parametrize('kind', students.STUDENTS)
def test_the_pooled_head_in_every_student(kind):
  """One pixel is copied 49 times, so the flat head with the sum of the 49 kernels is the same."""
  whole = nets.build('vgg', depth=11, channels=2, head='pooled', **{**CIFAR, 'shape': (2, 2, 1)})
  kept = [whole.stages[i] for i in (0, -3, -2, -1)]  # the first one halves 2 pixels
  assert [name for name, _ in kept] == ['stage0_conv0', 'pool', 'dense0', 'dense1']

  def student(stages, head_stages):
    settings = {'head_stages': head_stages} if kind == 'multi_head' else {}
    backbone = tiny.replace(whole, stages=tuple(stages))
    return students.make(kind, backbone, 3, members=2, **settings)

  pooled, flat = student(kept, 3), student([kept[0], *kept[2:]], 2)
  x = np.random.default_rng(1).uniform(size=(4, 2, 2, 1)).astype(np.float32)
  variables = tiny.moved(pooled.module, x, amount=0.1)
  params = variables['params']['heads' if kind == 'multi_head' else 'dense0']
  dense = (params['dense0'] if kind == 'multi_head' else params)['dense']
  if kind == 'batch_ensemble':
    dense['r'] = np.tile(dense['r'][:, :2], 49)
  y = jax.jit(pooled.module.apply)(variables, x)
  assert y.shape == (4, pooled.size, 3)
  kernel = dense['kernel']  # [..., 49 x 2, 64]
  dense['kernel'] = kernel.reshape((*kernel.shape[:-2], 49, 2, 64)).sum(-3)
  if kind == 'batch_ensemble':
    dense['r'] = dense['r'][:, :2]
  z = jax.jit(flat.module.apply)(variables, x)
  np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-4)


def test_dropout_and_unknown_heads():
  stages = dict(nets.build('vgg', dropout=0.5, head='pooled', **CIFAR).stages)
  assert stages['dense0'].keywords['dropout'] == stages['dense1'].keywords['dropout'] == 0.5
  assert stages['stage0_conv0'].keywords['dropout'] == 0.2
  with pytest.raises(ValueError, match="unknown network.head 'poled': did you mean 'pooled'"):
    nets.build('vgg', head='poled', **CIFAR)
