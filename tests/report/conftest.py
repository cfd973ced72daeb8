"""Fixtures of reports, made once per session."""

import json

import pytest
import reports
import tiny

from ensdistill import report
from ensdistill.config import identity
from ensdistill.logs import writers


@pytest.fixture(scope='session')
def dataset():
  return tiny.dataset()


@pytest.fixture(scope='session')
def compared(dataset):
  """A comparison of three members, their ensembles and a Dirichlet student of two seeds."""
  return reports.comparison(dataset)


@pytest.fixture(scope='session')
def finished(tmp_path_factory, dataset):
  """A run's folder as report.write leaves it, with NaN among its numbers, and its results."""
  folder = tmp_path_factory.mktemp('runs') / 'tiny'
  compared = reports.comparison(dataset)
  compared.rows[0]['metrics']['prr_epkl'] = float('nan')
  config = tiny.config(evaluate__ood='far,lost', seeds=2)
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps(identity.to_json(config)))
  with writers.Writer(folder, quiet=True) as writer:
    timings = {'teacher': 1.0, 'student': 2.0}
    flat = reports.flat_dataset(dataset)
    seen = reports.seen_by(flat)
    plan = tiny.replace(tiny.plan(config, dataset, folder), dataset=flat)
    written = report.write(plan, compared, seen, timings=timings, writer=writer)
  return folder, written
