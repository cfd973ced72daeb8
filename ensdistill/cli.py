"""The command `ensdistill`; `python -m ensdistill` is the same."""

import importlib
import sys
from collections.abc import Sequence

import ensdistill
from ensdistill.commands.usage import fail, meant

# {command: (its module, one line of help)}
COMMANDS = {
  'train': ('ensdistill.main', 'train an ensemble and distil it: train NAME[:VARIANT]'),
  'list': ('ensdistill.commands.listing', 'show methods, data sets and variants'),
  'config': ('ensdistill.commands.settings', 'show the settings of a recipe, or all settings'),
  'data': ('ensdistill.commands.data', 'show what a data set is, and some examples'),
  'evaluate': ('ensdistill.commands.evaluate', 'evaluate a finished student on any data'),
  'report': ('ensdistill.commands.report', 'write one page and table over finished runs'),
}


def main(arguments: Sequence[str] | None = None) -> int | None:
  """Run a command with its arguments; return the exit code."""
  arguments = sys.argv[1:] if arguments is None else arguments
  if not arguments or arguments[0] in ('-h', '--help', 'help'):
    print(usage())
    return 0
  name, *rest = arguments
  if name == '--version':
    print(f'ensdistill {ensdistill.__version__}')
    return 0
  if name not in COMMANDS:
    fail(2, f'unknown command {name!r}{meant(name, COMMANDS)} `ensdistill --help` lists them.')
  module = importlib.import_module(COMMANDS[name][0])
  return module.main(rest)


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
