"""Outputs [N, M, O] of ensembles that were trained elsewhere, and the file that a run reads.

x, y = ensdistill.data.parts('digits')['train']
outputs = ensdistill.teachers.from_torch(models, x)
ensdistill.teachers.save('teacher.npz', train=outputs)  # --config.teacher.outputs=teacher.npz
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ensdistill.data import blocks
from ensdistill.data.images import sizes
from ensdistill.storage import safe

SMALLEST = 1e-6  # a probability of zero counts as this one; its logarithm would be infinite


def from_torch(
  models: Iterable,
  x,
  preprocess: Callable | None = None,
  batch: int = 256,
  *,
  probabilities: bool = False,
) -> np.ndarray:
  """Return the outputs [N, M, O] of PyTorch modules.

  Args:
    models: modules that map a batch to logits [B, K]; for regression to means and log-variances
      [B, 2 D], or to a pair (mean, variance) as torch.nn.GaussianNLLLoss takes it. They run in
      evaluation mode, on their own devices.
    x: inputs as a data set stores them; images [N, H, W, C], of which uint8 become [0, 1].
    preprocess: float32 array [B, ...] -> tensor of a model's inputs; by default images in [0, 1]
      become [B, C, H, W].
    batch: examples of one call.
    probabilities: whether the models end in a softmax.
  """
  import torch

  if isinstance(models, torch.nn.Module) and not isinstance(models, torch.nn.ModuleList):
    raise ValueError(f'models is one {type(models).__name__}: give a list of modules, [model]')

  def prepared(block):
    if preprocess:
      return preprocess(block)
    return torch.as_tensor(np.moveaxis(block, -1, 1).copy() if block.ndim == 4 else block)

  def outputs_of(model):
    first = next(model.parameters(), torch.zeros(0))
    kind = first.dtype if first.is_floating_point() else torch.float32
    modes = [(module, module.training) for module in model.modules()]

    def placed(block):
      tensor = prepared(block)
      return tensor.to(first.device, kind if tensor.is_floating_point() else None)

    model.eval()
    try:
      with torch.no_grad():
        return [_torch_outputs(model(placed(block))) for block in _blocks(x, batch)]
    finally:
      for module, training in modes:  # some may be frozen in evaluation mode
        module.training = training

  return _stacked([_logits(np.concatenate(outputs_of(m)), probabilities) for m in models])


def _torch_outputs(found) -> np.ndarray:
  if isinstance(found, dict) and 'logits' in found:
    found = found['logits']
  found = getattr(found, 'logits', found)  # of models of the Hugging Face Hub
  if isinstance(found, tuple | list) and len(found) == 1:
    (found,) = found
  pair = isinstance(found, tuple | list) and len(found) == 2
  if pair and all(hasattr(one, 'detach') for one in found):
    mean, variance = (one.detach().cpu().float().numpy() for one in found)
    return _gaussian(mean, variance)
  if not hasattr(found, 'detach'):
    raise ValueError(
      f'a model returns a {type(found).__name__}: wrap it in a module that returns a tensor of '
      'logits, or (mean, variance) for regression'
    )
  return found.detach().cpu().float().numpy()


def from_keras(
  models: Iterable,
  x,
  preprocess: Callable | None = None,
  batch: int = 256,
  *,
  probabilities: bool = False,
) -> np.ndarray:
  """Return the outputs [N, M, O] of Keras models, computed without training behaviour.

  Args:
    models: Keras models. A model whose last layer is a softmax needs probabilities=True.
    x: inputs as a data set stores them; images of uint8 become [0, 1].
    preprocess: float32 array [B, ...] -> inputs of a model; by default unchanged.
    batch: examples of one call.
    probabilities: whether the models end in a softmax.
  """

  def outputs_of(model):
    found = []
    for block in _blocks(x, batch):
      outputs = model(preprocess(block) if preprocess else block, training=False)
      found.append(np.asarray(_to_numpy(outputs), np.float32))
    return np.concatenate(found)

  return _stacked([_logits(outputs_of(model), probabilities) for model in models])


def _to_numpy(tensor) -> np.ndarray:
  return tensor.detach().cpu().numpy() if hasattr(tensor, 'detach') else np.asarray(tensor)


def from_sklearn(
  models, x, *, smallest: float = SMALLEST, variance: float | Sequence[float] | None = None
) -> np.ndarray:
  """Return the outputs [N, M, O] of fitted scikit-learn estimators.

  Classifiers give the logarithms of predict_proba, regressors their predictions and a variance.

  Args:
    models: a list of fitted estimators, or a fitted forest, bagging or voting ensemble, whose
      members are taken. The members of other ensembles, such as boosting, predict no targets.
    x: inputs as the members were fitted on them, unscaled; images are flattened.
    smallest: the probability that replaces smaller ones.
    variance: of a regressor's errors, one number or one for each target; estimate it on examples
      that were not trained on. Estimators whose predict takes return_std need none.
  """
  x = np.concatenate([np.asarray(b).reshape(len(b), -1) for b in blocks(x, 4096)])
  members, columns, classes = _estimators(models)
  if classes is None:
    return _stacked([_regressed(m, x[:, c], variance) for m, c in zip(members, columns)])
  return _stacked([_classified(m, x[:, c], classes, smallest) for m, c in zip(members, columns)])


def _estimators(models) -> tuple[list, list, Any]:
  """Return the members, the columns that each sees, and all classes (None for regression)."""
  from sklearn import ensemble

  everything = slice(None)
  if isinstance(models, list | tuple):
    members, classes = list(models), None
    if not members:
      raise ValueError('models is empty: give one estimator or more')
    for member in members:
      check_fitted(member)
    labels = [member.classes_ for member in members if hasattr(member, 'classes_')]
    if labels:
      classes = np.unique(np.concatenate(labels))
    return members, [everything] * len(members), classes
  name = type(models).__name__
  forests = ensemble._forest.BaseForest, ensemble.BaggingClassifier, ensemble.BaggingRegressor
  votes = ensemble.VotingClassifier, ensemble.VotingRegressor
  check_fitted(models)
  if not isinstance(models, (*forests, *votes)) or isinstance(
    models, ensemble.RandomTreesEmbedding
  ):
    raise ValueError(
      f'{name} is not a forest, bagging or voting ensemble, so its parts do not predict the '
      'targets: pass a list of fitted estimators, each of which predicts them'
    )
  members = list(models.estimators_)
  columns = getattr(models, 'estimators_features_', [everything] * len(members))
  # Members were fitted on the positions of the classes, whatever the labels are.
  classes = getattr(models, 'classes_', None)
  if classes is not None:
    encoded = np.arange(len(classes))
    if all(np.isin(member.classes_, encoded).all() for member in members):
      classes = encoded
  return members, list(columns), classes


def check_fitted(member) -> None:
  """Refuse what is not a fitted estimator of scikit-learn, and classifiers of several targets."""
  from sklearn.base import BaseEstimator
  from sklearn.exceptions import NotFittedError
  from sklearn.utils.validation import check_is_fitted

  name = type(member).__name__
  try:
    check_is_fitted(member)
  except TypeError as error:
    problem = f'{name} is not an estimator of scikit-learn: give fitted estimators'
    raise ValueError(problem) from error
  except NotFittedError as error:
    if isinstance(member, BaseEstimator):  # others may not follow the names of attributes
      raise ValueError(f'{name} is not fitted: call its fit first') from error
  if isinstance(getattr(member, 'classes_', None), list):
    raise ValueError(f'{name} has several targets of classes: fit an ensemble for each target')


def _classified(member, x, classes, smallest: float) -> np.ndarray:
  """Return log-probabilities [N, K]; a class that a member has never seen gets `smallest`."""
  if not hasattr(member, 'predict_proba'):
    raise ValueError(f'{type(member).__name__} has no predict_proba: choose a classifier that has')
  found = np.full((len(x), len(classes)), smallest)
  columns = np.searchsorted(classes, member.classes_)
  if not np.array_equal(classes[columns.clip(max=len(classes) - 1)], member.classes_):
    raise ValueError(
      f'{type(member).__name__} was fitted on classes {member.classes_.tolist()}, not on positions '
      'of classes: pass a list of fitted estimators'
    )
  found[:, columns] = member.predict_proba(x)
  return np.log(found.clip(smallest)).astype(np.float32)


def _regressed(member, x, variance) -> np.ndarray:
  if variance is None:
    try:
      mean, deviation = member.predict(x, return_std=True)
    except TypeError:
      raise ValueError(
        f'{type(member).__name__} predicts no variance: pass variance=, the mean squared error on '
        'examples that it was not trained on'
      ) from None
    return _gaussian(mean, np.square(deviation))
  mean = np.asarray(member.predict(x))
  mean = mean.reshape(len(mean), -1)
  return _gaussian(mean, np.broadcast_to(np.asarray(variance, float), mean.shape))


def _gaussian(mean, variance) -> np.ndarray:
  """Return means, then log-variances [N, 2 D]."""
  mean, variance = (np.asarray(one, np.float64).reshape(len(one), -1) for one in (mean, variance))
  if not (variance > 0).all():
    raise ValueError(f'variance {variance.min()} must be positive')
  return np.concatenate([mean, np.log(variance)], 1).astype(np.float32)


def save(
  file,
  *,
  ood: Mapping[str, np.ndarray] | None = None,
  seed: int = 0,
  split: int = 0,
  **parts: np.ndarray,
) -> None:
  """Write the file that teacher.outputs names.

  Args:
    file: path of an .npz file.
    ood: {name of a data set: outputs on its test part}.
    seed: the seed of ensdistill.data.parts; a run of another seed is refused where the examples
      are drawn by the seed, as those of spirals.
    split: the split of ensdistill.data.parts; a run of another data.split is refused.
    **parts: train, and optionally valid and test: [N, M, O], a row for each example of that part
      of the data set, in the order of ensdistill.data.parts.
  """
  unknown = set(parts) - {'train', 'valid', 'test'}
  if unknown or 'train' not in parts:
    what = f'unknown part {min(unknown)!r}' if unknown else 'train is missing'
    raise ValueError(f'{what}: give train, and optionally valid and test')
  arrays = {name: np.asarray(array, np.float32) for name, array in parts.items()}
  arrays |= {f'ood/{name}': np.asarray(array, np.float32) for name, array in (ood or {}).items()}
  for name, array in arrays.items():
    if array.ndim != 3 or array.shape[1:] != arrays['train'].shape[1:]:
      raise ValueError(
        f'{name} has shape {array.shape}: store [N, M, O], with the M and O of train '
        f'{arrays["train"].shape}'
      )
    if not np.isfinite(array).all():
      raise ValueError(f'{name} holds NaN or infinity: store finite numbers')
    if array.shape[-1] > 1 and _are_probabilities(array):
      raise ValueError(
        f'{name} holds probabilities (every row sums to 1): store their logarithms, which '
        'from_torch and from_keras return with probabilities=True'
      )
  arrays |= {name: np.asarray(n) for name, n in (('seed', seed), ('split', split)) if n}
  with safe.replacing(file) as content:
    np.savez(content, **arrays)  # type: ignore[arg-type]  # names of arrays, not flags


def _blocks(x, batch: int) -> Iterable[np.ndarray]:
  """Yield blocks of inputs as networks see them: float32, images in [0, 1]."""
  for block in blocks(x, batch):
    block = np.asarray(block)
    yield sizes.as_dtype(block, np.float32) if block.ndim == 4 else block.astype(np.float32)


def _logits(outputs: np.ndarray, probabilities: bool) -> np.ndarray:
  sums = outputs.sum(-1)
  if probabilities:
    if (outputs < 0).any() or not np.allclose(sums, 1, atol=1e-3):
      raise ValueError(
        f'probabilities=True, but outputs from {outputs.min():.3g} to {outputs.max():.3g} hold '
        'negative values or rows that do not sum to 1: leave probabilities out for logits'
      )
    return np.log(outputs.clip(SMALLEST))
  if outputs.shape[-1] > 1 and _are_probabilities(outputs):
    raise ValueError(
      'every row of outputs sums to 1, so the models end in a softmax: pass probabilities=True'
    )
  return outputs


def _are_probabilities(outputs: np.ndarray) -> bool:
  return bool((outputs >= 0).all() and np.allclose(outputs.sum(-1), 1, atol=1e-3))


def _stacked(outputs: list[np.ndarray]) -> np.ndarray:
  shapes = {one.shape for one in outputs}
  if not outputs:
    raise ValueError('models is empty: give one model or more')
  if len(shapes) != 1:
    raise ValueError(f'members have outputs of shapes {sorted(shapes)}: they must be equal')
  return np.stack(outputs, 1)
