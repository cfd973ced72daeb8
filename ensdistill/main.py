"""Command line: python -m ensdistill.main --config=configs/NAME.py[:variant] [--workdir=DIR].

Any setting is overridden by --config.path.to.setting=value. Exit codes: 2 for wrong usage, 1 for
bad data or a failed run; both with one line that says what is wrong and what to do.
"""

import ast
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'The configuration file, e.g. configs/kd_digits.py or configs/kd_cifar10.py:small'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, "The run's folder (default: runs/<name of the run>)"
)


def _parse(argv):
  """Flags and the config file; whatever is wrong with them is one line and exit code 2."""
  for argument, value in zip(argv, [*argv[1:], '']):
    name, _, given = argument.partition('=')
    if name in ('--config', '-config'):  # a config file finds its neighbours wherever this is run
      path = (given or value).split(':')[0]
      sys.path.insert(1, str(pathlib.Path(path).resolve().parent.parent))
  try:
    rest = flags.FLAGS(argv)
    from ensdistill.config import settings

    if len(rest) > 1:
      raise ValueError(
        f'unexpected argument {rest[1]!r}: settings are given as --config.name=value'
      )
    if _CONFIG.value is None:
      raise ValueError('--config is missing: --config=configs/kd_digits.py, say')
    _CONFIG.value.to_dict()  # a config file that could not be read fails here
    overridden = config_flags.get_override_values(flags.FLAGS['config'])
    settings.forget_replaced(_CONFIG.value, overridden)
    return rest
  except Exception as error:
    if isinstance(error, (KeyError, AttributeError)):
      text = str(error.args[0])
      quoted = text[:1] in ('"', "'") and text[:1] == text[-1:]  # by a second KeyError around it
      error = f'unknown setting {ast.literal_eval(text) if quoted else text}'
    fail(2, str(error))


def fail(code: int, message: str):
  """One line on standard error, and the exit code."""
  print(f'ensdistill: {" ".join(message.split())}', file=sys.stderr)
  sys.exit(code)


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)  # JAX's notes on back ends that are not here
  from ensdistill import run
  from ensdistill.data import DataError
  from ensdistill.training.clock import NonFinite

  try:
    run.run(run.prepare(_CONFIG.value, _WORKDIR.value))
  except run.UsageError as error:
    fail(2, str(error))
  except (DataError, NonFinite, OSError, ValueError) as error:
    fail(1, str(error))


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
