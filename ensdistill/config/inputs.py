"""The data that a configuration names: how they are read, joined and augmented."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ensdistill import data
from ensdistill.config.settings import AUGMENT, build_each, given


class Augmentation(NamedTuple):
  """What changes training inputs."""

  images: Callable | None  # (key, x) -> x on the device
  batch: Callable | None  # (key, batch) -> batch of mixed examples
  crop_area: float  # the least share of an image in a file that a crop shows; 0: no crops

  def __bool__(self) -> bool:
    return bool(self.images or self.batch or self.crop_area)


def augmentation(config) -> Augmentation:
  """Return what the section `augment` asks for."""
  parts = build_each(config.augment, AUGMENT)
  return Augmentation(parts['images'], parts['batch'], crop_area=parts['files'])


def check_augmentation(augment: Augmentation, dataset) -> None:
  """Refuse augmentation that the inputs of a data set do not allow."""
  if augment.crop_area and not dataset.in_files:
    raise ValueError(
      f'augment.crop_area={augment.crop_area} is for images in files, and {dataset.name} has none: '
      'set augment.crop_area=0, or augment.crop'
    )
  if not augment.images and not augment.batch:
    return
  if len(dataset.shape) != 3:
    raise ValueError(
      f'augment is for images, and {dataset.name} has inputs of shape {dataset.shape}: set '
      '--config.augment.crop=0 --config.augment.flip=false and so on'
    )
  if augment.images:
    images = jax.ShapeDtypeStruct((2, *dataset.shape), jnp.float32)
    jax.eval_shape(augment.images, jax.eval_shape(lambda: jax.random.key(0)), images)


def watched(dataset: data.Dataset, folder) -> data.Dataset:
  """Return a data set whose images in files are compared with what this run read before.

  `folder` keeps a digest of every image; a resumed run compares with those of its first part.
  """
  parts: dict[str, Any] = {}
  for part in ('train', 'valid', 'test'):
    x, y = getattr(dataset, part)
    if data.stored.in_files(x) and len(x):
      name = f'{part}-{x.stamp().hex()[:16]}.digests'  # of these images, in this order
      digests = data.stored.watched.Digests(folder / name, len(x))
      digests.make()
      parts[part] = data.Split(dataclasses.replace(x, digests=digests), y)
  return dataclasses.replace(dataset, **parts) if parts else dataset


def data_settings(section) -> dict:
  """Return what decides the examples of a data set, besides its name and a seed."""
  common = {name: section[name] for name in ('valid', 'limit', 'split')}
  return common | given(section, data.CONFIGURED)


def reading(section) -> dict:
  """Return how data sets are read that only evaluation looks at."""
  return {
    'dir': section.dir or None,
    'unreadable': section.unreadable or 'stop',
    'stream': section.stream,
    'stream_bytes': section.stream_bytes,
  }


def load_data(config, crop_area: float = 0.0) -> tuple[data.Dataset, data.Dataset]:
  """Return the data set, and what the student learns from: with auxiliary inputs (EnD²+AUX)."""
  section = config.data
  options = {'dir': section.dir or None, 'seed': config.seed}
  where = {'stream': section.stream, 'stream_bytes': section.stream_bytes}
  settings = data_settings(section) | where | options
  dataset = data.load(section.name, crops=bool(crop_area), **settings)
  if not section.aux:
    return dataset, dataset
  options |= reading(section) | {'shape': dataset.shape, 'limit': section.limit}
  options['columns'] = dataset.columns
  try:  # the training part, so that the test part still measures detection
    auxiliary = data.load_inputs(section.aux, part='train', **options)
  except data.InputsOnly:  # it has none
    auxiliary = data.load_inputs(section.aux, **options)
  return dataset, data.join(dataset, auxiliary)
