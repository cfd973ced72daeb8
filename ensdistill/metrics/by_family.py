"""The metrics of each family: all that differs between classification and regression.

`of(family)` returns an object. Its `scored` takes the predictive distributions and targets of a
set; the other methods take what it returned, and return metrics by the names of results.json.
"""

from typing import Any, NamedTuple

from ensdistill import names
from ensdistill.metrics import calibration, entropies, influence, regression, summary
from ensdistill.metrics.uncertainty import auroc


class Classification:
  """Metrics of a predictive.Mixture or Dirichlet, with labels [B]."""

  shift_metrics = ('acc', 'nll', 'ece', 'knowledge')

  def uncertainties(self, p):
    """Return the uncertainties {name: [B]} of predictions: entropies, in nats."""
    return entropies.log_probs_and_uncertainties(p)[1]

  def scored(self, p, labels_B=None, *, valid=None, valid_labels=None, ensemble=None):
    """Return what the metrics of a set are made of.

    `ensemble` is the ensemble's predictive for the same inputs. With it, the metrics of agreement
    are added.
    """
    validation = {'valid_predictive': valid, 'valid_labels': valid_labels}
    return summary.scored(p, labels_B, ensemble=ensemble, **validation)

  def test(self, found, *, ensemble_cnll=None):
    """Return all metrics of a scored test set; see summary.classification."""
    return summary.scored_metrics(found, ensemble_cnll)

  def shifted(self, found):
    """Return `shift_metrics` of a scored, shifted test set."""
    by = found.examples
    table = calibration.bin_table(by['confidence'], by['correct'], rounding=summary.ROUNDING)
    return {
      'acc': float(by['correct'].mean()),
      'nll': float(by['nll'].mean()),
      'ece': calibration.table_error(table),
      'knowledge': float(by['knowledge'].mean()),
    }

  def ood(self, inside, outside):
    """Return metrics of detecting the scored set `outside`, the positive class, among `inside`."""
    return summary.ood_metrics(inside.examples, outside.examples)

  def influences(self, found):
    """Return the examples' influences on metrics of `test`; see metrics.influence."""
    return influence.classification(found.examples)

  def ood_influences(self, inside, outside):
    """Return the examples' influences on metrics of `ood`."""
    return influence.ood(inside.examples, outside.examples)

  def sums(self, p, labels_B):
    """Return sums over the examples of one block of a set; those of all blocks add up."""
    found = summary.all_examples(p, labels_B)
    names = {'acc': 'correct', 'nll': 'nll', 'pairwise_kl': 'pairwise_kl'}
    return {name: float(found[key].sum()) for name, key in names.items()}

  def from_sums(self, sums, size):
    """Return acc, nll and pairwise_kl of a set of `size` examples from its `sums`."""
    return {name: value / size for name, value in sums.items()}


class Predicted(NamedTuple):
  """A regressor's predictions on one set, its targets, and the ensemble's predictions."""

  p: Any
  y_BD: Any = None
  ensemble: Any = None


class Regression:
  """Metrics of a predictive.GaussianMixture or NormalWishart, with targets [B, D]."""

  shift_metrics = ('rmse', 'nll', 'crps', 'knowledge')

  def uncertainties(self, p):
    """Return the uncertainties {name: [B]} of predictions: variances, summed over targets."""
    return regression.uncertainties(p)

  def scored(self, p, y_BD=None, *, valid=None, valid_labels=None, ensemble=None):
    """Return what the metrics of a set are made of; see Classification.scored."""
    del valid, valid_labels  # nothing is calibrated
    return Predicted(p, y_BD, ensemble)

  def test(self, found, *, ensemble_cnll=None):
    """Return all metrics of the test set; see summary.regression."""
    del ensemble_cnll
    return summary.regression(found.p, found.y_BD, ensemble=found.ensemble)

  def shifted(self, found):
    """Return `shift_metrics` of a shifted test set."""
    every = summary.regression(found.p, found.y_BD)
    return {name: every[name] for name in self.shift_metrics}

  def ood(self, inside, outside):
    """Return metrics of detecting the set `outside`, the positive class, among `inside`."""
    of_outside = self.uncertainties(outside.p)
    if outside.ensemble is not None:
      of_outside['ensemble_knowledge'] = self.uncertainties(outside.ensemble)['knowledge']
      of_outside['agreement_kl'] = regression.divergences(outside.p, outside.ensemble)
    knowledge = [regression.entropies(found.p)[2] for found in (inside, outside)]
    metrics = summary.ood_metrics(self.uncertainties(inside.p), of_outside)
    return metrics | {'auroc_entropy_knowledge': auroc(*knowledge)}

  def influences(self, found):
    """Return the examples' influences on metrics of `test`; see metrics.influence."""
    return influence.regression(found.p, found.y_BD)

  def ood_influences(self, inside, outside):
    """Return the examples' influences on metrics of `ood`."""
    return influence.ood(self.uncertainties(inside.p), self.uncertainties(outside.p))

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


FAMILIES = {'categorical': Classification(), 'gaussian': Regression()}


def of(family):
  """Return the metrics of a family, by its name."""
  return names.lookup('family', family, FAMILIES)
