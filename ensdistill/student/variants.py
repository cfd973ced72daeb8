"""Variants of a student with smaller weights, and their loss of quality."""

import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from ensdistill import families, metrics, names, spec
from ensdistill.evaluation import cost
from ensdistill.storage import safe
from ensdistill.student import weights
from ensdistill.student.model import Model

ORIGINAL = 'float32'


class Loss(NamedTuple):
  """Measured on the same test examples, and timed in turns: {metric: (original, variant)}."""

  examples: int
  metrics: dict[str, tuple[float, float]]
  largest: float  # difference of a probability, or of a mean in deviations of the target


def make(model: Model, form: str) -> Model:
  """Return a student with weights of another form; its calibration and results are left out."""
  names.check('form of weights', form, spec.FORMS)
  if weights.form(model.spec):
    raise ValueError(f'the student has {weights.form(model.spec)} weights: give the original one')
  rounded = weights.decoded(weights.encoded(safe.flatten(model.variables), form), form)
  own = {k: v for k, v in model.spec.items() if k not in ('calibration', 'results')}
  own |= {'weights': {'form': form}, 'name': f'{model.spec["name"]}-{form}'}
  return Model(own, model.student, safe.unflatten(rounded))


def loss(model: Model, variant: Model, dataset, batch: int = 500) -> Loss:
  """Measure a student and its variant on the test part of a data set."""
  x, y = dataset.test
  predictors = [one.predictor(min(batch, len(y))) for one in (model, variant)]
  variables_of = (model.variables, variant.variables)
  predictions = [predict(variables, x) for predict, variables in zip(predictors, variables_of)]
  family = metrics.of(dataset.family)
  values = [family.from_sums(family.sums(p, y), len(y)) for p in predictions]
  models = {
    name: (predictor.forward, variables, cost.parameters(variables))
    for name, predictor, variables in zip((ORIGINAL, 'variant'), predictors, variables_of)
  }
  costs = cost.of_models(models, model.spec['shape'], model.spec['dtype'])
  pairs = {key: (values[0][key], values[1][key]) for key in values[0]}
  pairs |= {key: (costs[ORIGINAL][key], costs['variant'][key]) for key in costs[ORIGINAL]}
  return Loss(len(y), pairs, _difference(predictions[0], predictions[1], model.spec))


def _difference(p, q, own) -> float:
  """Return the largest difference of two predictions."""
  if not families.FAMILIES[own['family']].has_classes:
    deviation = np.asarray(own['target_std'])
    return float(np.abs((np.asarray(p.mean()) - np.asarray(q.mean())) / deviation).max())
  first, second = (np.exp(np.asarray(one.log_probs())) for one in (p, q))
  return float(np.abs(first - second).max())


def results(found: Loss, form: str) -> list[dict[str, Any]]:
  """Return the rows of a variant's card: the original, and the variant."""
  return [
    {'name': name, 'metrics': {key: pair[place] for key, pair in found.metrics.items()
                               if pair[place] is not None and np.isfinite(pair[place])}}
    for place, name in enumerate((f'student ({ORIGINAL})', f'student ({form})'))
  ]  # fmt: skip


def size(folder) -> int:
  """Return the bytes of a student's weights."""
  return os.path.getsize(pathlib.Path(folder) / 'weights.safetensors')


def is_in(folder) -> bool:
  """Return whether a folder holds a variant, which may be overwritten, not an original."""
  try:
    own = json.loads((pathlib.Path(folder) / 'config.json').read_text())
    return weights.form(own) is not None
  except (OSError, ValueError, AttributeError):
    return False
