"""Made-up comparisons, runs and pages for tests of reports."""

import dataclasses
import html.parser
import pathlib

import numpy as np
from scipy import special

from ensdistill import predictive
from ensdistill.data.dataset import Split
from ensdistill.evaluation import gaps, measure, rows
from ensdistill.evaluation.comparison import Comparison, Model
from ensdistill.report import figures, probes, runs

SETS = {'valid': 24, 'test': 24, 'ood/far': 30}


def predictions(seed, members, labels):
  """Return log-probabilities of members that mostly know the labels, in distribution."""
  rng = np.random.default_rng(seed)
  found = {}
  for name, size in SETS.items():
    z_BMK = rng.normal(0, 1, (size, 1, 3)) + rng.normal(0, 1, (size, members, 3))
    if not name.startswith('ood'):
      z_BMK[np.arange(size), :, labels] += 2.5
    found[name] = special.log_softmax(z_BMK, -1).astype(np.float32)
  return found


def dirichlet(log_probs_BMK):
  """Return a Dirichlet around these predictions."""
  return predictive.Dirichlet(special.logsumexp(log_probs_BMK, 1) + 3)


def first_member(log_probs_BMK):
  """Return the predictions of the first member."""
  return predictive.Mixture(log_probs_BMK[:, :1])


STUDENTS = {'dirichlet': dirichlet, 'members': predictive.Mixture, 'single': first_member}


def comparison(dataset, student='dirichlet', shifts=True):
  """Return three members, their ensembles, and students of two seeds, with measured metrics."""
  logs = predictions(0, 3, dataset.test.y)

  def members(start, end):
    return {name: predictive.Mixture(x[:, start:end]) for name, x in logs.items()}

  def seed(number):
    found = predictions(number, 3, dataset.test.y)
    return {name: STUDENTS[student](x) for name, x in found.items()}

  models = [
    model('member', 1, [members(m, m + 1) for m in range(3)]),
    model('ensemble', 2, [members(0, 2)]),
    model('ensemble', 3, [members(0, 3)]),
    model('student', 3 if student == 'members' else 1, [seed(1), seed(2)]),
  ]
  found = [
    row_of(
      one,
      [measure.sets(dataset, r) | (shifted(i) if shifts else {}) for r in one.repeats],
      {'params': 2000} if one.name == 'ensemble-2' else {'params': 1000, 'ms_per_example': 0.5},
    )
    for i, one in enumerate(models)
  ]
  gaps.add(found)
  for row in found:
    row['test_se'] = {key: 0.01 for key in row['metrics'] if key.split('/')[0] in ('nll', 'shift')}
  return Comparison(found, models, {'ood/lost': 'the folder is not there'}, {})


def model(role, size, repeats):
  """Return a model of a comparison."""
  return Model(role, size, rows.name(role, size), repeats)


def row_of(model, measured, costs):
  """Return the row of a model, as results.json has it."""
  return rows.of_repeats(model.name, measured, costs, role=model.role, size=model.size)


def shifted(i):
  """Return metrics of shifted sets, which fall with the severity."""
  found = {
    f'shift/{kind}/{severity}/{metric}': value - 0.01 * severity - 0.001 * i
    for kind, value in (('blur', 0.9), ('noise', 0.7))
    for severity in (1, 2, 3, 4, 5)
    for metric in ('acc', 'ece')
  }
  return measure.with_means(found)


def context(dataset, compared, seen=None):
  """Return the context of pictures."""
  return figures.Context(dataset, compared.rows, compared.models, seen)


def flat_dataset(dataset):
  """Return the same labels on two-dimensional inputs."""
  x = np.random.default_rng(3).normal(0, 2, (48, 2)).astype(np.float32)
  splits = {
    n: Split(x[: len(s.y)], s.y) for n, s in (('train', dataset.train), ('test', dataset.test))
  }
  return dataclasses.replace(dataset, **splits)


def seen_by(dataset, name='ods'):
  """Return made-up probes of a data set's inputs."""
  clean = dataset.test.x[:4]
  moved = np.clip(clean + 0.01, 0, 1) if clean.ndim == 4 else clean + 0.5
  grid = probes.grid(np.array([[-1.0, -2.0], [1.0, 2.0]]), 5)
  rng = np.random.default_rng(4)
  on_grid = predictive.Mixture(special.log_softmax(rng.normal(0, 2, (25, 3, 3)), -1))
  return probes.Probes(
    probes.Plane(grid, {'ensemble-3': on_grid, 'student': on_grid}),
    probes.Moved(name, clean, moved, np.arange(4.0), np.arange(4.0) + 1),
  )


def row(name, **values):
  """Return a row of results.json with these metrics."""
  (found,) = rows.with_roles([{'name': name}])
  return found | {'seeds': 1, 'se': {}, 'metrics': values}


def results(found, **changes):
  """Return results.json with these rows."""
  return {
    'name': 'run',
    'rows': found,
    'not_run': {},
    'timings': {'teacher': 1.0},
    'pictures': {},
    'versions': {'jax': '1.2'},
    'command': 'python -m ensdistill.main --config=configs/kd_digits.py',
    **changes,
  }


def run_of(label, found, view='members', **changes):
  """Return a run with these rows, which is not on disk."""
  config = {'data': {'name': 'digits'}, 'student': {'view': view}}
  return runs.Run(label, pathlib.Path(label), config, results(found, **changes))


def gap_rows():
  """Return rows in which a student closes some gaps and not others."""
  student = row(
    'student', acc=0.945, nll=0.25, ece=0.05, bs=0.1, dee=1.5, knowledge=0.0, params=100.0
  )
  student['metrics'] |= {'gap_closed/acc': 0.9, 'gap_closed/nll': 0.5, 'gap_closed/ece': 0.2}
  student |= {'seeds': 3, 'se': {'gap_closed/acc': 0.125}}
  student['metrics']['gap_closed/bs'] = None
  return [
    row('member', acc=0.9, nll=0.3, ece=0.01, bs=0.1),
    row('ensemble-4', acc=0.95, nll=0.2, ece=0.02, bs=0.1, knowledge=0.1, params=400.0),
    student,
  ]


class Page(html.parser.HTMLParser):
  """Text, tags and attributes of a page."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.sources, self.text = [], [], ''
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self.sources += [v for k, v in attrs if k in ('src', 'href', 'srcset', 'data')]

  def handle_data(self, data):
    self.text += data
