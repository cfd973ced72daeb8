"""How well an ensemble and the true posterior tell circles of several radii from test points."""

import pathlib

import numpy as np

from ensdistill import data, export, metrics
from experiments.spirals import posterior

RADII = (100, 200, 300, 410, 500, 800, 2_000, 10_000)
POINTS = 1000


def measure(folder: pathlib.Path) -> list[dict]:
  """Return the AUROC of the first teacher's ensemble at every radius; [] without a run.

  The posterior has no knowledge uncertainty: it is the AUROC of its entropy.
  """
  from ensdistill.commands import label_distributions

  runs = [path.parent for path in sorted(folder.glob('runs/*__t0_s0/student'))]
  if not runs:
    return []
  model = export.load(runs[0] / 'student')
  ensemble = label_distributions.find(model, runs[0], str(folder / 'teachers'), POINTS)
  seed = model.spec['made_by']['config']['seed']
  test = data.load('spirals', seed=seed, noise=posterior.NOISE, per_class=posterior.PER_CLASS).test

  def scores(x):
    """Return {what: uncertainty of each point}."""
    theirs = metrics.of('categorical').uncertainties(ensemble.predictor(ensemble.variables, x))
    own = posterior.log_posterior(x)
    entropy = -np.einsum('bk,bk->b', np.exp(own), np.where(np.isfinite(own), own, 0))
    return {'total': theirs['total'], 'knowledge': theirs['knowledge'], 'posterior': entropy}

  inside, random, found = scores(test.x), np.random.default_rng(0), []
  for radius in RADII:
    angle = random.uniform(0, 2 * np.pi, POINTS)
    outside = scores((radius * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32))
    aurocs = {name: metrics.auroc(inside[name], outside[name]) for name in inside}
    found.append({'radius': radius, 'auroc': aurocs})
  return found
