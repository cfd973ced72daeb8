"""Probes are the predictions of the networks themselves."""

import dataclasses

import jax
import numpy as np
import tiny
from reports import flat_dataset

from ensdistill import data, predictive
from ensdistill.evaluation import networks
from ensdistill.perturb import Space
from ensdistill.report import probes


def collected(config, dataset):
  """Return the probes of untrained networks, and their teacher."""
  plan = tiny.plan(config, dataset)
  ensemble, students = tiny.untrained(plan)
  settings = {'batch': config.evaluate.batch_size, 'precision': config.evaluate.precision}
  run = networks.of_run(dataset, ensemble, students, **settings)
  return probes.collect(plan, ensemble, students, run), ensemble


def test_probes_look_at_the_networks_themselves(dataset, monkeypatch):
  monkeypatch.setattr(probes, 'SIDE', 6)
  flat = dataclasses.replace(
    flat_dataset(dataset), mean=(0.0, 0.0), std=(1.0, 1.0), space=Space(-9.0, 9.0, 1.0)
  )
  seen, ensemble = collected(tiny.config(perturb__name='gaussian', perturb__eta=0.5), flat)
  assert seen.plane.x.shape == (6, 6, 2)
  assert set(seen.plane.predictives) == {'ensemble-3', 'student'}
  outputs = ensemble.freeze(ensemble.variables).outputs(seen.plane.x.reshape(-1, 2))
  expected = predictive.Mixture(jax.nn.log_softmax(outputs)).knowledge()
  np.testing.assert_allclose(
    seen.plane.predictives['ensemble-3'].knowledge(), expected, rtol=1e-3, atol=1e-6
  )
  spread = np.ptp(flat.train.x, axis=0)
  np.testing.assert_allclose(np.ptp(seen.plane.x, axis=(0, 1)), 1.5 * spread, rtol=1e-5)
  step = seen.moved.moved - seen.moved.clean
  assert seen.moved.name == 'gaussian' and 0.2 < step.std() < 0.8
  assert (seen.moved.before != seen.moved.after).all() and (seen.moved.after >= 0).all()


def test_pictures_without_perturbation_or_plane_have_no_probes(dataset):
  assert collected(tiny.config(), dataset)[0] == probes.Probes(None, None)


def test_a_batch_ensemble_is_probed_between_its_members(dataset):
  changes = dict(student__kind='batch_ensemble', student__factors='normal', teacher__members=2)
  seen, _ = collected(tiny.config(**changes), dataset)
  assert seen.subspace.lines['nll'].shape[0] == 2 and seen.subspace.plane is not None


def test_a_single_teacher_is_shown_as_a_member(dataset, monkeypatch):
  monkeypatch.setattr(probes, 'SIDE', 3)
  flat = dataclasses.replace(flat_dataset(dataset), mean=(0.0, 0.0), std=(1.0, 1.0))
  seen, _ = collected(tiny.config(teacher__members=1), flat)
  assert set(seen.plane.predictives) == {'member', 'student'}


def test_probes_of_one_dimension_are_the_networks_in_the_targets_units(monkeypatch):
  monkeypatch.setattr(probes, 'POINTS', 7)
  toy = data.load('toy1d', size=120)
  toy = dataclasses.replace(toy, target_mean=(100.0,), target_std=(10.0,))
  seen, ensemble = collected(tiny.config(teacher__members=2, evaluate__batch_size=7), toy)
  assert seen.plane is None and seen.line.x.shape == (7, 1)
  outputs = ensemble.freeze(ensemble.variables).outputs(seen.line.x)[..., 0]
  np.testing.assert_allclose(
    seen.line.predictives['ensemble-2'].mean()[:, 0], 100 + 10 * outputs.mean(1), rtol=1e-5
  )
