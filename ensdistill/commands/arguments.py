"""From a command line to a configuration: a recipe or config file, and the settings it changes."""

import importlib.machinery
import importlib.util
import pathlib
import re
import traceback
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from ensdistill.commands.usage import meant

_KINDS = {
  bool: 'true or false',
  float: 'a number',
  int: 'a whole number',
  tuple: 'numbers such as (64,64)',
}


def configuration(arguments: Sequence[str]) -> tuple[ConfigDict, str | None]:
  """Return the configuration that a command line gives, and its --workdir.

  The first argument, or --config, is the name of a recipe or the path of a config file, each with
  or without a variant. Raises ValueError for whatever is wrong, in one line.
  """
  from ensdistill.config import settings

  values = flags.FlagValues()
  flags.DEFINE_string('workdir', None, 'folder of the run', flag_values=values)
  try:
    source, rest = _source(values.read_flags_from_files(list(arguments)))
    config = load(source)
    given = _given(rest, config)
    config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=['', *rest])
    values(['', *rest])
  except flags.IllegalFlagValueError as error:
    raise ValueError(_wrong_value(str(error), config, given)) from error
  except flags.Error as error:
    raise ValueError(str(error)) from error
  settings.forget_replaced(config, config_flags.get_override_values(values['config']))
  return config, values['workdir'].value


def load(source: str) -> ConfigDict:
  """Return the configuration of 'NAME[:VARIANT]', a recipe, or 'PATH[:VARIANT]', a config file."""
  from ensdistill.config import recipes

  name, *variant = source.split(':', 1)
  path = pathlib.Path(name)
  if path.is_file():
    return _from_file(path, variant)
  if path.suffix != '.py' and len(path.parts) == 1:
    return recipes.named(name, *variant)
  if recipes.method_and_data(path.stem):
    raise ValueError(
      f'no config file {name}: the recipe {":".join([path.stem, *variant])!r} works from any '
      'folder. `ensdistill list` shows all of them.'
    )
  near = meant(name, [str(file) for file in path.parent.glob('*.py')])
  if near == '.':
    near = meant(path.stem, recipes.all_names())
  raise ValueError(f'no config file {name}{near} `ensdistill list` shows the recipes.')


def _from_file(path: pathlib.Path, variant: list[str]) -> ConfigDict:
  """Run a config file's get_config."""
  loader = importlib.machinery.SourceFileLoader('ensdistill_config_file', str(path))
  spec = importlib.util.spec_from_loader(loader.name, loader)
  assert spec
  module = importlib.util.module_from_spec(spec)
  try:
    loader.exec_module(module)
    config = module.get_config(*variant)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  except ImportError as error:
    if str(error.name).split('.')[0] != 'configs':
      raise ValueError(_where(path, error)) from error
    raise ValueError(
      "configs.common is now ensdistill.config.recipes: write 'from ensdistill.config import "
      f"recipes' and 'get_config = recipes.config(METHOD, DATA)' in {path}"
    ) from error
  except Exception as error:
    raise ValueError(_where(path, error)) from error
  if not isinstance(config, ConfigDict):
    raise ValueError(f'{path}: get_config returns a {type(config).__name__}, not a ConfigDict')
  return config


def _where(path: pathlib.Path, error: Exception) -> str:
  lines = [
    frame.lineno
    for frame in traceback.extract_tb(error.__traceback__)
    if frame.filename == str(path)
  ]
  place = f'{path}, line {lines[-1]}' if lines else str(path)
  return f'{place}: {type(error).__name__}: {error}'


def _source(arguments: list[str]) -> tuple[str, list[str]]:
  """Take the recipe's name or the config file's path out of the arguments."""
  if arguments and not arguments[0].startswith('-'):
    return arguments[0], arguments[1:]
  for at, argument in enumerate(arguments):
    flag, equals, value = argument.partition('=')
    if flag in ('--config', '-config'):
      if equals:
        return value, arguments[:at] + arguments[at + 1 :]
      if at + 1 < len(arguments):
        return arguments[at + 1], arguments[:at] + arguments[at + 2 :]
  raise ValueError(
    '--config is missing: name a recipe, --config=kd_digits, or a config file. '
    '`ensdistill list` shows the recipes.'
  )


def _given(arguments: list[str], config) -> dict[str, str]:
  """Return {setting: value as it was typed}, and refuse what is not a known flag or setting."""
  from ensdistill.config import identity

  known = identity.flatten(config.to_dict())
  given: dict[str, str] = {}
  waiting = iter(arguments)
  for argument in waiting:
    flag, equals, value = argument.partition('=')
    name = flag.lstrip('-')
    setting = re.sub(r'^(no)?config\.', '', name)
    if not argument.startswith('-'):
      raise ValueError(_unexpected(argument, known))
    if name != 'workdir' and setting == name:
      raise ValueError(_unknown_flag(flag, value, known))
    if name != 'workdir' and setting not in known:
      raise ValueError(_unknown_setting(setting, known))
    if not equals and (name == 'workdir' or _kind(setting, config) is not bool):
      value = next(waiting, '')
    given[setting] = value
  return given


def _unexpected(argument: str, known) -> str:
  name, equals, value = argument.partition('=')
  hint = _as_flags(name, equals + value, known) if equals else '.'
  return f'unexpected argument {argument!r}{hint} Settings are given as --config.NAME=VALUE.'


def _unknown_flag(flag: str, value: str, known) -> str:
  name = flag.lstrip('-')
  hint = meant(flag, ['--config', '--workdir'])
  if name in known or hint == '.':
    hint = _as_flags(name, f'={value}' if value else '', known)
  return f'unknown flag {flag}{hint} `ensdistill train --help` shows the flags.'


def _unknown_setting(name: str, known) -> str:
  inside = [other for other in known if other.startswith(f'{name}.')]
  if inside:
    text = f'{name} is a section of settings, such as --config.{inside[0]}.'
  else:
    text = f'unknown setting {name!r}{_as_flags(name, "", known)}'
  return f'{text} `ensdistill config --all` lists all of them.'


def _as_flags(name: str, value: str, known) -> str:
  from ensdistill.config import settings

  near = [f'--config.{other}{value}' for other in settings.nearest(name, known)]
  return f': did you mean {" or ".join(near)}?' if near else '.'


def _wrong_value(text: str, config, given: dict[str, str]) -> str:
  """Return the message for a value of the wrong type; `text` is absl's."""
  found = re.match(r'flag --config\.([\w.]+)=', text)
  if not found:
    return text
  name = found[1]
  kind = _KINDS.get(_kind(name, config))
  return f'--config.{name}={given[name]!r} must be {kind}' if kind else text


def _kind(setting: str, config) -> type:
  *sections, name = setting.split('.')
  for section in sections:
    config = config[section]
  return config.get_type(name)
