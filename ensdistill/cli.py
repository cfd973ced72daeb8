"""The command `ensdistill`; `python -m ensdistill` is the same."""

import importlib
import sys
from collections.abc import Sequence

import ensdistill
from ensdistill import names
from ensdistill.commands.usage import fail, pipe_may_close

# {command: (the module that has its `main`, one line of help)}. It is imported when it runs.
COMMANDS = {
  'train': ('main', 'train an ensemble and distil it: train NAME[:VARIANT]'),
  'list': ('commands.listing', 'show methods, data sets and variants'),
  'config': ('commands.settings', 'show the settings of a recipe, or all settings'),
  'data': ('commands.data', 'show what a data set is, and some examples'),
  'sweep': ('commands.sweep', 'run methods over settings, teachers and seeds, and compare them'),
  'evaluate': ('commands.evaluate', 'evaluate a finished student on any data'),
  'predict': ('commands.predict', 'predict with a finished student on images, arrays and tables'),
  'export': (
    'commands.export',
    'write a student as ONNX, StableHLO, ...: export STUDENT --to=onnx',
  ),
  'push': ('commands.push', 'upload a student to the Hugging Face Hub: push STUDENT OWNER/NAME'),
  'serve': ('commands.serve', 'serve students over HTTP, with a page: serve STUDENT...'),
  'report': ('commands.report', 'write one page and table over finished runs'),
}


def main(arguments: Sequence[str] | None = None) -> int:
  """Run a command with its arguments, those of the process by default; return the exit code."""
  arguments = sys.argv[1:] if arguments is None else arguments
  if not arguments or arguments[0] in ('-h', '--help', 'help'):
    print(usage())
    return 0
  name, *rest = arguments
  if name == '--version':
    print(f'ensdistill {ensdistill.__version__}')
    return 0
  if name not in COMMANDS:
    hint = names.meant(name, COMMANDS)
    fail(2, f'unknown command {name!r}{hint} `ensdistill --help` lists them.')
  module, _ = COMMANDS[name]
  try:
    with pipe_may_close():
      importlib.import_module(f'ensdistill.{module}').main(rest, prog=f'ensdistill {name}')
  except KeyboardInterrupt:
    fail(130, 'stopped by SIGINT')
  return 0


def usage() -> str:
  """Return the text of --help."""
  commands = [f'  {name:10}{about}' for name, (_, about) in COMMANDS.items()]
  return '\n'.join(
    [
      'ensdistill: distil a deep ensemble into one network.',
      '',
      'usage: ensdistill COMMAND ...   (`ensdistill COMMAND --help` shows its flags)',
      '',
      *commands,
      '',
      'example: ensdistill train hydra_digits:small --config.seed=1',
    ]
  )


if __name__ == '__main__':
  sys.exit(main())
