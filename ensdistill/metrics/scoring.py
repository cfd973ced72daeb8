"""Accuracy and proper scores of categorical predictions, exact over a set."""

import numpy as np

from ensdistill.metrics.arrays import check, in_blocks, normalized


def correct(log_probs_BK, labels_B):
  """Return whether the likeliest class (the first of equals) is the label: [B] bool."""
  log_probs_BK, labels_B = check(log_probs_BK, labels_B)
  return log_probs_BK.argmax(-1) == labels_B


def accuracy(log_probs_BK, labels_B):
  """Return the share of examples whose likeliest class (the first of equals) is the label.

  Example:
    >>> log_probs_BK = np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    >>> accuracy(log_probs_BK, np.array([0, 1, 1]))
    0.6666666666666666
  """
  return float(correct(log_probs_BK, labels_B).mean())


def member_accuracies(log_probs_BMK, labels_B):
  """Return the accuracy of every member alone: [M]."""
  log_probs_BMK, labels_B = check(log_probs_BMK, labels_B)
  return (log_probs_BMK.argmax(-1) == labels_B[:, None]).mean(0)


def label_log_probs(log_probs_BK, labels_B):
  """Return log p(label): [B]."""
  return np.take_along_axis(log_probs_BK, labels_B[:, None], -1)[:, 0]


def squared_errors(log_probs_BK, labels_B):
  """Return sum_k (p_k - 1[k = label])^2: [B]."""
  error_BK = np.exp(log_probs_BK)
  error_BK[np.arange(len(labels_B)), labels_B] -= 1
  return (error_BK**2).sum(-1)


def nll(log_probs_BK, labels_B):
  """Return the negative log likelihood, mean of -log p(label); inf if a label has p = 0.

  Example:
    >>> log_probs_BK = np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    >>> round(nll(log_probs_BK, np.array([0, 1, 1])), 4)
    0.4594
  """

  def per_example(x, y):
    return -label_log_probs(normalized(x), y)

  return float(in_blocks(per_example, *check(log_probs_BK, labels_B)).mean())


def brier(log_probs_BK, labels_B):
  """Return the Brier score, mean of sum_k (p_k - 1[k = label])^2, between 0 and 2.

  Example:
    >>> log_probs_BK = np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    >>> round(brier(log_probs_BK, np.array([0, 1, 1])), 4)
    0.3067
  """

  def per_example(x, y):
    return squared_errors(normalized(x), y)

  return float(in_blocks(per_example, *check(log_probs_BK, labels_B)).mean())
