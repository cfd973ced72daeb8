"""What all metrics share: checked inputs, float64 on the host, blocks that bound the memory."""

import numpy as np

BLOCK = 1 << 20  # largest number of entries in memory at a time: 8 MB in float64


def check(log_probs, labels_B=None):
  """Return log_probs and labels as arrays; refuse shapes and labels that do not fit."""
  log_probs = np.asarray(log_probs)
  if not len(log_probs):
    raise ValueError('no examples: a metric needs at least one')
  if labels_B is None:
    return log_probs
  labels_B, classes = np.asarray(labels_B), log_probs.shape[-1]
  if labels_B.shape != log_probs.shape[:1]:
    raise ValueError(
      f'labels of shape {labels_B.shape} do not fit log_probs of shape {log_probs.shape}: pass one '
      'label an example'
    )
  if labels_B.dtype.kind == 'f' and not (labels_B == np.floor(labels_B)).all():
    bad = labels_B[labels_B != np.floor(labels_B)][0]
    raise ValueError(f'label {bad} is not a whole number: pass numbers of classes')
  if labels_B.min() < 0 or labels_B.max() >= classes:
    bad = labels_B[(labels_B < 0) | (labels_B >= classes)][0]
    raise ValueError(f'label {bad} is not between 0 and {classes - 1}: leave such examples out')
  return log_probs, labels_B.astype(np.int64)


def softmax(log_probs):
  """Return renormalised log_probs and probs [..., K] in float64.

  In float32 a class of probability 1 - 1e-12 has log p = 0. The other classes still hold the
  difference, and renormalising restores it.
  """
  x = np.array(log_probs, np.float64)
  top = x.max(-1, keepdims=True)
  with np.errstate(invalid='ignore'):  # a row of -inf is refused below
    x -= top
  probs = np.exp(x)
  total = probs.sum(-1, keepdims=True)
  if not np.abs(np.log(total) + top).max() < 0.01:  # NaN fails too
    raise ValueError(
      'probabilities do not sum to one, or log_probs are not finite: pass the log of a softmax'
    )
  x -= np.log(total)
  probs /= total
  return x, probs


def normalized(log_probs):
  """Return renormalised log_probs [..., K] in float64."""
  return softmax(log_probs)[0]


def in_blocks(function, *arrays):
  """Return function(*arrays), an array or a tuple of arrays [B, ...], computed block by block."""
  arrays = [np.asarray(a) for a in arrays]
  total = len(arrays[0])
  step = max(1, BLOCK // max(a[:1].size for a in arrays))
  parts = [function(*(a[i : i + step] for a in arrays)) for i in range(0, total, step)]
  if isinstance(parts[0], tuple):
    return tuple(np.concatenate(column) for column in zip(*parts))
  return np.concatenate(parts)


def scores(values_B):
  """Return a float64 vector of scores to rank by; refuse NaN."""
  values_B = np.asarray(values_B, np.float64).reshape(-1)
  if np.isnan(values_B).any():
    raise ValueError('scores hold NaN, which has no rank: leave such examples out')
  return values_B
