"""Data sets by name, the order of their examples, and augmentation on the device."""

from ensdistill.data import augment, sampler
from ensdistill.data.dataset import (
  DataError,
  Dataset,
  MissingData,
  Split,
  as_input,
  fingerprint,
  join,
)
from ensdistill.data.sources import OOD_DEFAULTS, PREPARED, SOURCES, load, load_inputs

__all__ = [
  'OOD_DEFAULTS',
  'PREPARED',
  'SOURCES',
  'DataError',
  'Dataset',
  'MissingData',
  'Split',
  'as_input',
  'augment',
  'fingerprint',
  'join',
  'load',
  'load_inputs',
  'sampler',
]
