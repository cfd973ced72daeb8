"""Parts of a data set: without validation examples, all training examples train."""

import numpy as np
import pictures
import pytest

from ensdistill import data


def test_no_validation_keeps_every_training_example():
  whole, cut = data.load('digits', valid=0), data.load('digits', valid=200)
  assert whole.valid_is_empty and not cut.valid_is_empty
  assert len(whole.train.y) == len(cut.train.y) + 200
  assert whole.valid.x.shape == (0, *whole.shape) and len(whole.test.y) == len(cut.test.y)
  assert whole.fingerprint != cut.fingerprint


def test_no_validation_of_images_in_files(tmp_path):
  for part in ('train', 'val', 'test'):
    pictures.folder(tmp_path / part, (4, 4))
  dataset = data.load(f'folder:{tmp_path}', size=8, valid=0, stream='on')
  assert dataset.valid_is_empty and dataset.in_files and len(dataset.train.y) == 8
  assert np.asarray(dataset.valid.x).shape == (0, 8, 8, 3)


def test_a_wrong_number_of_validation_examples_is_named():
  with pytest.raises(ValueError, match='data.valid=-1: .* set 0 to'):
    data.load('digits', valid=-1)
