"""The ensemble that a configuration names: teacher.outputs or teacher.source."""

import contextlib
import inspect
import pathlib
import sys

import numpy as np

from ensdistill import data, imports, messages
from ensdistill.config import inputs
from ensdistill.data import cuts
from ensdistill.data.sources import npz
from ensdistill.evaluation import sets
from ensdistill.given import functions, outputs


def load(config, dataset) -> 'outputs.Outputs | functions.Functions | None':
  """Return the ensemble that a configuration names; None where the run trains its own."""
  section = config.teacher
  if section.outputs and section.source:
    raise ValueError(
      f'teacher.outputs={section.outputs!r} and teacher.source={section.source!r}: set one of them'
    )
  if section.outputs:
    return _outputs(config, dataset)
  if section.source:
    setting = f'teacher.source={section.source!r}'
    function = imports.attribute(section.source, setting)
    if not callable(function):
      raise ValueError(f'{setting} is a {type(function).__name__}, not a function')
    try:
      made = function()
    except Exception as error:
      raise ValueError(f'{setting} failed: {messages.described(error)}') from error
    source = _text(section.source, function)
    return functions.from_functions(made, dataset, setting, source, section.strategy)
  return None


def adopt(config, ensemble) -> None:
  """Write the size and digest of an ensemble that was trained elsewhere into the configuration."""
  section = config.teacher
  if section.members not in (0, ensemble.size):
    raise ValueError(
      f'teacher.members={section.members}, but {ensemble.where} has {ensemble.size}: set '
      'teacher.members=0'
    )
  section.members, section.content = ensemble.size, ensemble.content


def _text(name: str, function) -> bytes:
  """Return the source of the module that teacher.source names, and of a function from elsewhere."""
  place = name.rpartition(':')[0]
  if place.endswith('.py'):
    text = pathlib.Path(place).expanduser().read_bytes()
  else:
    text = imports.text(sys.modules[place])
  own = imports.text(inspect.unwrap(function))  # empty for objects
  return text if own == text else text + own


def _outputs(config, dataset) -> outputs.Outputs:
  """Return the outputs that a file stores, for the examples of a data set."""
  try:
    file = npz.find_file(config.teacher.outputs, None)
  except data.MissingData:
    raise data.MissingData(
      f'teacher.outputs={config.teacher.outputs!r} does not exist: name the file that '
      'ensdistill.teachers.save wrote'
    ) from None
  arrays = {name: npz.read_array(file, name) for name in sorted(npz.array_names(file))}
  _check_seed(config, arrays, file)
  rows = {}
  for name in sets.ood_names(dataset, config.evaluate.ood):
    if f'{outputs.OOD}{name}' not in arrays or name == sets.OUTSIDE:
      continue
    # The evaluation will write an error to `not_run`.
    with contextlib.suppress(data.DataError, ValueError):
      reading = inputs.reading(config.data) | {'seed': config.seed}
      form = {'shape': dataset.shape, 'columns': dataset.columns}
      size = len(data.load_inputs(name, **form, **reading))
      chosen = cuts.subset(None, size, len(dataset.test.x), config.seed)  # as sets.inputs does
      rows[name] = data.Rows('test', chosen, size)
  check_order = config.teacher.check_order is not False
  return outputs.from_arrays(arrays, dataset, file, rows, check_order)


def _check_seed(config, arrays, file) -> None:
  """Refuse outputs for other examples: of another seed or another split; take both numbers out."""
  drawn = [config.data.name, *(name.removeprefix(outputs.OOD) for name in arrays)]
  own = {'seed': config.seed, 'split': config.data.split}
  if not set(drawn) & data.DRAWN:
    arrays.pop('seed', None)
    own.pop('seed')
  for name, wanted in own.items():
    stored = arrays.pop(name, np.zeros((), int))
    if stored.shape != () or stored != wanted:
      setting = 'seed' if name == 'seed' else 'data.split'
      raise data.DataError(
        f'{file} holds outputs for {name} {stored}, and {setting}={wanted} has other examples: '
        f'set {setting}={stored}, or store outputs on data.parts({config.data.name!r}, '
        f'{name}={wanted}) by teachers.save(..., {name}={wanted})'
      )
