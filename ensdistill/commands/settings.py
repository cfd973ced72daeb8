"""Show settings: `ensdistill config NAME[:VARIANT]` of a recipe, `ensdistill config --all` all.

  ensdistill config hydra_cifar100:small   the settings of a recipe or config file
  ensdistill config --all                  every setting with its default and a line of help
  ensdistill config hydra_cifar100 --all   every setting with the recipe's value

--config.path.to.setting=VALUE changes a setting, and --import=FILE.py imports parts of your own, as
in `ensdistill train`.
"""

import sys
import textwrap
from collections.abc import Sequence

from ensdistill import names
from ensdistill.commands.usage import fail


def main(arguments: Sequence[str] | None = None, prog: str = 'ensdistill config') -> None:
  """Run the command with its arguments, those of the process by default."""
  arguments = list(sys.argv[1:] if arguments is None else arguments)
  if {'-h', '--help'} & set(arguments):
    print((__doc__ or '').rstrip())
    return
  every = '--all' in arguments
  rest = [argument for argument in arguments if argument != '--all']
  if not rest and not every:
    fail(2, f'name a recipe: `{prog} kd_digits`. `ensdistill list` shows the recipes.')
  from ensdistill.commands.arguments import configuration, import_named
  from ensdistill.config import settings
  from ensdistill.config.help import default_of, help_of, shown

  try:
    import_named(rest)  # before the settings are collected
    default = names.flatten(settings.default().to_dict())
    own = settings.default() if every else None
    config, _ = configuration(rest, default=own, command='config')
  except ValueError as error:
    fail(2, str(error))
  values = names.flatten(config.to_dict())
  for name, value in values.items():
    if every:
      print(f'{name} = {shown(value)}\n    {help_of(name)}')
      usual = default_of(name, default.get(name))
      if usual != shown(value):
        print(textwrap.indent(textwrap.fill(f'default: {usual}', 76), ' ' * 4))
    elif value is not None:
      print(f'{name} = {shown(value)}')
  if not every:
    print('\nThe parts decide the settings that are not set. `ensdistill config --all` lists them.')
