"""A writer, and what readers of its files see."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ensdistill.logs import writers


@pytest.fixture
def writer(tmp_path):
  with writers.Writer(tmp_path, quiet=True) as writer:
    yield writer


class Reader:
  """The files of a run's folder as their readers see them."""

  def lines(self, folder):
    """Return the lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]

  def events(self, folder):
    """Return what TensorBoard reads of the run."""
    return EventAccumulator(str(folder / 'tb'), purge_orphaned_data=True).Reload()

  def curve(self, folder, tag):
    """Return the steps and values of a curve."""
    return [(event.step, event.value) for event in self.events(folder).Scalars(tag)]


@pytest.fixture(scope='session')
def reader():
  return Reader()
