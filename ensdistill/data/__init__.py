"""Data sets by name, the order of their examples, and augmentation on the device."""

from ensdistill.data import augment, sampler
from ensdistill.data.dataset import (
  DataError,
  Dataset,
  InputsOnly,
  MissingData,
  Split,
  as_input,
  fingerprint,
  join,
)
from ensdistill.data.images import stored, windows
from ensdistill.data.loading import load, load_inputs
from ensdistill.data.sources import CONFIGURED, OOD_DEFAULTS, PREPARED, SOURCES
from ensdistill.data.stream import Batch, Blocks, Stream, ahead, blocks

__all__ = [
  'CONFIGURED',
  'OOD_DEFAULTS',
  'PREPARED',
  'SOURCES',
  'Batch',
  'Blocks',
  'DataError',
  'Dataset',
  'InputsOnly',
  'MissingData',
  'Split',
  'Stream',
  'ahead',
  'as_input',
  'augment',
  'blocks',
  'fingerprint',
  'join',
  'load',
  'load_inputs',
  'sampler',
  'stored',
  'windows',
]
