"""Options of a prediction, on the command line and over HTTP."""

from typing import NamedTuple

from ensdistill.student.calibration import COVERAGE
from ensdistill.student.model import Model


class Options(NamedTuple):
  """Outputs besides probabilities (or means) and uncertainties, and how to read the inputs."""

  calibrated: bool = False
  coverage: float | None = None  # of prediction sets, or of the interval of quantiles
  sets: str | None = None  # the kind of prediction sets
  abstain: float | None = None  # rate of abstention
  members: bool = False
  scale: float | None = None  # number that arrays of images are multiplied by


class OptionError(ValueError):
  """A student cannot serve an option: the name of the `option`, and the `problem`."""

  def __init__(self, option: str, problem: str):
    super().__init__(option, problem)
    self.option, self.problem = option, problem

  def __str__(self):
    return f'{self.option} {self.problem}'


def checked(options: Options, model: Model) -> Options:
  """Return options with the defaults of a student; raise ValueError for what it cannot serve.

  Raise OptionError if a single option is at fault.
  """
  known, regression = model.calibration is not None, not model.family.has_classes
  if options.calibrated and regression:
    raise OptionError('calibrated', 'is for classifiers: quantiles of regression always are')
  if options.sets and regression:
    raise OptionError('sets', 'is for classifiers: regression has quantiles instead: set coverage')
  if options.sets and options.coverage is None:
    raise OptionError('sets', 'has no effect without coverage: set it, such as .9')
  needed = options.coverage is not None or options.abstain is not None or options.calibrated
  if needed and not known:
    raise ValueError(model.why_uncalibrated)
  if options.scale is not None and len(model.spec['shape']) == 1:
    raise OptionError('scale', 'is for images: give tables in the units of the training data')
  if regression and known and options.coverage is None:
    return options._replace(coverage=COVERAGE)
  return options


def classes(model: Model) -> list[str] | None:
  """Return the names of the classes, numbers where they have none; None for regression."""
  if not model.family.has_classes:
    return None
  found = model.classes
  if found is None or len(set(found)) < len(found):
    return [str(number) for number in range(model.spec['targets'])]
  return found
