"""The table of objectives: settings, predictive distributions, what fits, and a new objective."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from references import B, logits

from ensdistill import families, objectives, predictive

categorical, gaussian = families.categorical, families.gaussian


def test_settings_reach_the_loss():
  def both(z, t):
    one = z[:, :1]
    made = lambda name, z, **settings: objectives.make(name, **settings).loss(categorical, z, t)
    return (
      (made('mean', z, temperature=4.0), objectives.mean(z, t, 4.0)),
      (made('mean', z), objectives.mean(z, t)),
      (made('members', z, temperature=4.0), objectives.members(z, t, 4.0)),
      (made('dirichlet', one, smoothing=0.1), objectives.dirichlet(one, t, smoothing=0.1)),
      (made('proxy_dirichlet', one, form='forward'), objectives.proxy_dirichlet(one, t, 'forward')),
    )

  values = []
  for (loss_B, _), expected in jax.jit(both)(logits(10), logits(10, 1)):
    np.testing.assert_allclose(loss_B.mean(), expected, rtol=1e-6)
    values.append(float(expected))
  assert len(set(np.round(values, 4))) == 5  # each setting matters


@pytest.mark.parametrize(
  'name,family,kind',
  [
    ('none', categorical, predictive.Mixture),
    ('mean', categorical, predictive.Mixture),
    ('members', gaussian, predictive.GaussianMixture),
    ('dirichlet', categorical, predictive.Dirichlet),
    ('proxy_dirichlet', categorical, predictive.Dirichlet),
    ('prior_network', categorical, predictive.Dirichlet),
    ('normal_wishart', gaussian, predictive.NormalWishart),
  ],
)
def test_each_objective_predicts_in_its_own_way(name, family, kind):
  objective = objectives.make(name)
  width = objective.width(family, 3)
  assert width == {'normal_wishart': 12}.get(name, 3 if family is categorical else 6)
  predicted = objective.predictive(family, logits(width, members=1))
  assert isinstance(predicted, kind)
  assert predicted.total().shape == (B,)
  if family is categorical and name != 'proxy_dirichlet':
    expected = scipy.special.log_softmax(logits(width, members=1)[:, 0], -1)
    np.testing.assert_allclose(predicted.log_probs(), expected, rtol=1e-5)


def test_what_does_not_fit_says_what_to_set():
  fits = {name: objectives.make(name).fits for name in objectives.OBJECTIVES}
  for name in ('none', 'mean'):
    for family in families.FAMILIES:
      for kind, size in (('single', 1), ('multi_head', 4)):
        assert fits[name](family, kind, size, 4) is None
        assert fits[name](family, kind, size, 1) is None
  assert fits['members']('categorical', 'batch_ensemble', 4, 4) is None
  assert "objective.name='mean'" in fits['members']('categorical', 'single', 1, 4)
  assert 'has 3 and the teacher 4' in fits['members']('gaussian', 'multi_head', 3, 4)
  for name in ('dirichlet', 'proxy_dirichlet'):
    assert fits[name]('categorical', 'single', 1, 4) is None
    assert "student.kind='single'" in fits[name]('categorical', 'batch_ensemble', 4, 4)
    assert "objective.name='normal_wishart'" in fits[name]('gaussian', 'single', 1, 4)
    assert 'teacher.members' in fits[name]('categorical', 'single', 1, 1)
  assert fits['normal_wishart']('gaussian', 'single', 1, 4) is None
  assert "objective.name='dirichlet'" in fits['normal_wishart']('categorical', 'single', 1, 4)
  assert fits['prior_network']('categorical', 'single', 1, 1) is None
  assert 'multi_head' in fits['prior_network']('categorical', 'multi_head', 4, 4)


def test_unknown_names_and_bad_settings_are_refused():
  with pytest.raises(ValueError, match="unknown objective 'dirichelt': did you mean 'dirichlet'"):
    objectives.make('dirichelt')
  with pytest.raises(ValueError, match="setting of objective 'none' 'temperature'"):
    objectives.make('none', temperature=2.0)
  for name, settings in (
    ('mean', {'temperature': 0.0}),
    ('mean', {'held': 0.7, 'end': 0.6}),
    ('mean', {'held': 0.5}),
    ('mean', {'end': 0.25}),
    ('dirichlet', {'temperature': -1.0}),
    ('dirichlet', {'smoothing': 1.0}),
    ('dirichlet', {'held': 0.7, 'end': 0.6}),
    ('proxy_dirichlet', {'form': 'backward'}),
    ('prior_network', {'beta': 0.0}),
    ('prior_network', {'aux_weight': -1.0}),
  ):
    with pytest.raises(ValueError, match=str(list(settings.values())[0])):
      objectives.make(name, **settings)


def test_a_new_objective_is_a_function_and_a_line(monkeypatch):
  def logit_matching(*, scale=1.0):
    """Mean squared difference of centred logits, member by member."""

    def loss(family, outputs_BMK, teacher_outputs_BMK):
      gap_BMK = outputs_BMK - teacher_outputs_BMK
      gap_BMK -= gap_BMK.mean(-1, keepdims=True)
      return scale * (gap_BMK**2).mean((1, 2)), {}

    return objectives.Objective('logits', loss)

  monkeypatch.setitem(objectives.OBJECTIVES, 'logits', logit_matching)
  objective = objectives.make('logits', scale=2.0)
  z, t = logits(10), logits(10, 1)
  gap = (z - z.mean(-1, keepdims=True)) - (t - t.mean(-1, keepdims=True))
  loss_B, logs = objective.loss(categorical, z, t, **objective.schedule(0.5))
  np.testing.assert_allclose(loss_B, 2 * (gap**2).mean((1, 2)), rtol=1e-5)
  assert logs == {} and objective.width(categorical, 10) == 10
  assert objective.fits('gaussian', 'multi_head', 4, 4) is None
  labels = jnp.arange(B)
  np.testing.assert_allclose(
    objective.label_loss(categorical, z, labels), categorical.label_loss(z, labels)
  )
