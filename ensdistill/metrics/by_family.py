"""The metrics of each family: all that differs between classification and regression.

`of(family)` returns an object whose methods take predictive distributions and targets of that
family and return metrics by the names of results.json.
"""

from ensdistill import names
from ensdistill.metrics import calibration, entropies, influence, regression, summary
from ensdistill.metrics.uncertainty import auroc


class Classification:
  """Metrics of a predictive.Mixture or Dirichlet, with labels [B]."""

  shift_metrics = ('acc', 'nll', 'ece', 'knowledge')

  def uncertainties(self, p):
    """Return the uncertainties {name: [B]} of predictions: entropies, in nats."""
    return entropies.log_probs_and_uncertainties(p)[1]

  def test(self, p, labels_B, *, valid, valid_labels, ensemble=None, ensemble_cnll=None):
    """Return all metrics of the test set; see summary.classification."""
    return summary.classification(
      p,
      labels_B,
      valid_predictive=valid,
      valid_labels=valid_labels,
      ensemble=ensemble,
      ensemble_cnll=ensemble_cnll,
    )

  def shifted(self, p, labels_B):
    """Return `shift_metrics` of a shifted test set."""
    found = summary.examples(p, labels_B)
    table = calibration.bin_table(found['confidence'], found['correct'], rounding=summary.ROUNDING)
    return {
      'acc': float(found['correct'].mean()),
      'nll': float(found['nll'].mean()),
      'ece': calibration.table_error(table),
      'knowledge': float(found['knowledge'].mean()),
    }

  def ood(self, inside, outside, *, ensemble=None):
    """Return metrics of detecting `outside`, the positive class, among `inside`.

    `ensemble` is the ensemble's predictive for the same inputs as `outside`. With it, the metrics
    of agreement are added.
    """
    return summary.ood_metrics(
      summary.all_examples(inside), summary.all_examples(outside, ensemble=ensemble)
    )

  def sums(self, p, labels_B):
    """Return sums over the examples of one block of a set; those of all blocks add up."""
    found = summary.all_examples(p, labels_B)
    names = {'acc': 'correct', 'nll': 'nll', 'pairwise_kl': 'pairwise_kl'}
    return {name: float(found[key].sum()) for name, key in names.items()}

  def from_sums(self, sums, size):
    """Return acc, nll and pairwise_kl of a set of `size` examples from its `sums`."""
    return {name: value / size for name, value in sums.items()}

  def influences(self, p, labels_B, *, temperature=1.0):
    """Return the examples' influences on metrics of `test`; see metrics.influence."""
    return influence.classification(p, labels_B, temperature=temperature)

  def ood_influences(self, inside, outside):
    """Return the examples' influences on metrics of `ood`."""
    return influence.ood(summary.all_examples(inside), summary.all_examples(outside))


class Regression:
  """Metrics of a predictive.GaussianMixture or NormalWishart, with targets [B, D]."""

  shift_metrics = ('rmse', 'nll', 'crps', 'knowledge')

  def uncertainties(self, p):
    """Return the uncertainties {name: [B]} of predictions: variances, summed over targets."""
    return regression.uncertainties(p)

  def test(self, p, y_BD, *, valid=None, valid_labels=None, ensemble=None, ensemble_cnll=None):
    """Return all metrics of the test set; see summary.regression."""
    del valid, valid_labels, ensemble_cnll  # nothing is calibrated
    return summary.regression(p, y_BD, ensemble=ensemble)

  def shifted(self, p, y_BD):
    """Return `shift_metrics` of a shifted test set."""
    found = summary.regression(p, y_BD)
    return {name: found[name] for name in self.shift_metrics}

  def ood(self, inside, outside, *, ensemble=None):
    """Return metrics of detecting `outside`, the positive class, among `inside`.

    `ensemble` is the ensemble's predictive for the same inputs as `outside`. With it, the metrics
    of agreement are added.
    """
    of_outside = self.uncertainties(outside)
    if ensemble is not None:
      of_outside['ensemble_knowledge'] = self.uncertainties(ensemble)['knowledge']
      of_outside['agreement_kl'] = regression.divergences(outside, ensemble)
    knowledge = [regression.entropies(p)[2] for p in (inside, outside)]
    metrics = summary.ood_metrics(self.uncertainties(inside), of_outside)
    return metrics | {'auroc_entropy_knowledge': auroc(*knowledge)}

  def sums(self, p, y_BD):
    """Return sums over the examples of one block of a set; those of all blocks add up."""
    return {
      'squared_error': float(regression.squared_errors(p, y_BD).sum()),
      'nll': float(-regression.at_targets('log_prob', p, y_BD).sum()),
      'knowledge': float(self.uncertainties(p)['knowledge'].sum()),
    }

  def from_sums(self, sums, size):
    """Return rmse, nll and knowledge of a set of `size` examples from its `sums`."""
    means = {name: value / size for name, value in sums.items()}
    return {'rmse': means.pop('squared_error') ** 0.5, **means}

  def influences(self, p, y_BD, *, temperature=1.0):
    """Return the examples' influences on metrics of `test`; see metrics.influence."""
    del temperature
    return influence.regression(p, y_BD)

  def ood_influences(self, inside, outside):
    """Return the examples' influences on metrics of `ood`."""
    return influence.ood(self.uncertainties(inside), self.uncertainties(outside))


FAMILIES = {'categorical': Classification(), 'gaussian': Regression()}


def of(family):
  """Return the metrics of a family, by its name."""
  return names.lookup('family', family, FAMILIES)
