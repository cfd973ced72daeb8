"""Checkpointers that tests share."""

import pytest
from checkpoints import make_state

from ensdistill.storage import checkpoint


@pytest.fixture
def warnings():
  return []


@pytest.fixture
def saved(tmp_path, warnings):
  """A checkpointer with steps 1 and 2."""
  with checkpoint.Checkpointer(tmp_path / 'c', log=warnings.append) as checkpointer:
    checkpointer.save(1, make_state(1))
    checkpointer.save(2, make_state(2))
    yield checkpointer
