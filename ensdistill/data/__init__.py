"""Data sets by name, the order of their examples, and augmentation on the device."""

from ensdistill.data import augment, sampler
from ensdistill.data.dataset import (
  Dataset,
  Rows,
  Split,
  Unlabelled,
  as_input,
  fingerprint,
  join,
)
from ensdistill.data.errors import DataError, InputsOnly, MissingData
from ensdistill.data.images import stored, windows
from ensdistill.data.loading import ARRAYS, from_arrays, load, load_inputs, load_unlabelled, parts
from ensdistill.data.sources import CONFIGURED, DRAWN, OOD_DEFAULTS
from ensdistill.data.stream import Batch, Blocks, Stream, ahead, blocks

__all__ = [
  'ARRAYS',
  'CONFIGURED',
  'DRAWN',
  'OOD_DEFAULTS',
  'Batch',
  'Blocks',
  'DataError',
  'Dataset',
  'InputsOnly',
  'MissingData',
  'Rows',
  'Split',
  'Stream',
  'Unlabelled',
  'ahead',
  'as_input',
  'augment',
  'blocks',
  'fingerprint',
  'from_arrays',
  'join',
  'load',
  'load_inputs',
  'load_unlabelled',
  'parts',
  'sampler',
  'stored',
  'windows',
]
