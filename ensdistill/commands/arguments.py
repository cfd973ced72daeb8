"""From a command line to a configuration: a recipe or config file, and the settings it changes."""

import ast
import hashlib
import importlib.machinery
import importlib.util
import inspect
import pathlib
import re
import traceback
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from ensdistill import names, paths
from ensdistill.processes import joining

PROCESSES = ('coordinator', 'num_processes', 'process_id')  # flags of a run that several share
_FLAGS = {  # besides --config
  'config': ('--all', '--import'),
  'train': ('--workdir', '--overwrite', '--import', *(f'--{name}' for name in PROCESSES)),
}
_KINDS = {
  bool: 'true or false',
  float: 'a number',
  int: 'a whole number',
  tuple: 'numbers such as (64,64)',
}


def configuration(
  arguments: Sequence[str], *, default: ConfigDict | None = None, command: str = 'train'
) -> tuple[ConfigDict, str | None]:
  """Return the configuration that a command line gives, and its --workdir.

  The argument without a dash, or --config, is the name of a recipe or the path of a config file,
  each with or without a variant. `default` is the configuration where neither is given. `command`
  is the one whose --help lists the flags. Raise ValueError with a one-line message for any mistake.
  """
  from ensdistill.config import imported, settings

  values = flags.FlagValues()
  flags.DEFINE_string('workdir', None, 'folder of the run', flag_values=values)
  try:
    rest, places = import_named(values.read_flags_from_files(list(arguments)))
    line = _read(rest, command)
    config = default if default and not line.sources else load(_source(line.sources))
    config_flags.DEFINE_config_dict(
      'config', config, flag_values=values, sys_argv=['', *line.flags]
    )
    values(['', *line.flags])
  except flags.IllegalFlagValueError as error:
    raise ValueError(_wrong_value(str(error), config, line.given)) from error
  except flags.Error as error:
    raise ValueError(str(error)) from error
  for name, value in names.flatten(config.to_dict()).items():
    if isinstance(value, tuple) and not all(type(entry) in (int, float) for entry in value):
      raise ValueError(f'--config.{name}={line.given.get(name, value)!r} must be {_KINDS[tuple]}')
  settings.forget_replaced(config, config_flags.get_override_values(values['config']))
  _add_imports(config, places)
  imported.record(config)
  return config, values['workdir'].value


def place(arguments: Sequence[str]) -> tuple[list[str], joining.Place]:
  """Return a command line without the flags of processes, and what they say of this one."""
  rest: list[str] = []
  found: dict[str, str] = {}
  waiting = iter(arguments)
  for argument in waiting:
    flag, equals, value = argument.partition('=')
    name = flag.lstrip('-') if argument.startswith('-') else ''
    if name in PROCESSES:
      found[name] = value if equals else next(waiting, '')
    else:
      rest.append(argument)
  for name in PROCESSES[1:]:
    if name in found and not found[name].isdecimal():
      raise ValueError(f'--{name}={found[name]!r} must be a whole number')
  count, number = (int(found[name]) if name in found else None for name in PROCESSES[1:])
  return rest, joining.Place(found.get('coordinator'), count, number)


def import_named(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Import what a command line names and what installed packages offer, before settings are read.

  Return the arguments without --import, and the imports. A network 'DIR/file.py:function' becomes
  'file.py:function'.
  """
  from ensdistill import plugins

  plugins.load_installed()
  rest: list[str] = []
  places: list[str] = []
  waiting = iter(arguments)
  for argument in waiting:
    flag, equals, value = argument.partition('=')
    name = flag.lstrip('-') if argument.startswith('-') else ''
    if name in ('import', 'config.imports', *_NETWORKS):
      value = value if equals else next(waiting, '')
    if name == 'import' and not value:
      raise ValueError('--import is empty: write --import=my_method.py or --import=package.module')
    if name in ('import', 'config.imports'):
      own = [value] if name == 'import' else plugins.named(value)
      for named in own:
        plugins.load(named, f'--{name}={value}')
      places += own
    elif name in _NETWORKS:
      rest.append(f'{flag}={plugins.network(value, f"{flag}={value}")}')
    else:
      _load_of_file(argument if not name else value if name == 'config' else '')
      rest.append(argument)
  return rest, places


_NETWORKS = ('config.network.name', 'config.student.network.name')


def _load_of_file(source: str) -> None:
  """Import what a config file lists, if this argument is one."""
  path = pathlib.Path(source.partition(':')[0])
  if path.suffix == '.py' and path.is_file():
    imports_of(path)


def imports_of(path: pathlib.Path) -> list[str]:
  """Import what the tuple `imports` of a config file names, relative to its folder; return it."""
  from ensdistill import plugins

  try:
    body = ast.parse(path.read_bytes()).body
  except (SyntaxError, ValueError):
    return []  # running the file raises the error
  found: list[str] = []
  for node in body:
    names_of = [ast.unparse(target) for target in getattr(node, 'targets', ())]
    if isinstance(node, ast.Assign) and names_of == ['imports']:
      try:
        value = ast.literal_eval(node.value)
        if not isinstance(value, list | tuple) or not all(isinstance(own, str) for own in value):
          raise ValueError
      except ValueError:
        raise ValueError(
          f"{path}: imports must list files or modules, such as imports = ('my_method.py',)"
        ) from None
      found = list(value)
  setting = f'{path}: imports={tuple(found)}'
  return [plugins.load(place, setting, path.parent).place for place in found]


def _add_imports(config, places: Sequence[str]) -> None:
  """Note imports in a configuration, each once."""
  from ensdistill import plugins

  every = dict.fromkeys([*plugins.named(config.imports), *places])
  config.imports = ','.join(every) or None


def load(source: str) -> ConfigDict:
  """Return the configuration of 'NAME[:VARIANT]', a recipe, or 'PATH[:VARIANT]', a config file."""
  from ensdistill.config import recipes

  paths.check('--config', source)
  name, *variant = source.split(':', 1)
  path = pathlib.Path(name)
  if recipes.method_and_data(name):
    return recipes.named(name, *variant)
  if path.is_file():
    return _from_file(path, variant)
  if path.is_dir() and name not in recipes.METHODS and name not in recipes.DATA:
    raise ValueError(
      f'{path} is a folder: name a recipe or a config file. `ensdistill list` shows the recipes.'
    )
  if path.suffix != '.py' and len(path.parts) == 1:
    return recipes.named(name, *variant)
  if recipes.method_and_data(path.stem):
    raise ValueError(
      f'no config file {name}: the recipe {":".join([path.stem, *variant])!r} works from any '
      'folder. `ensdistill list` shows all of them.'
    )
  near = names.meant(name, [str(file) for file in path.parent.glob('*.py')], cutoff=0.6)
  if near == '.':
    near = names.meant(path.stem, recipes.all_names(), cutoff=0.6)
  raise ValueError(f'no config file {name}{near} `ensdistill list` shows the recipes.')


def _from_file(path: pathlib.Path, variant: list[str]) -> ConfigDict:
  """Run a config file's get_config."""
  from ensdistill import plugins
  from ensdistill.config import settings

  own = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
  loader = importlib.machinery.SourceFileLoader(f'ensdistill_config_file_{own}', str(path))
  spec = importlib.util.spec_from_loader(loader.name, loader)
  assert spec
  module = importlib.util.module_from_spec(spec)
  places, before = imports_of(path), plugins.registered()
  try:
    loader.exec_module(module)
    plugins.remember(str(path), module, before, str(path), named=False)
    _check_signature(getattr(module, 'get_config', None), variant)
    config = module.get_config(*variant)
    if not isinstance(config, ConfigDict):
      raise ValueError(f'get_config returns a {type(config).__name__}, not a ConfigDict')
    settings.check_fields(config)
    _add_imports(config, places)
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
  return config


def _check_signature(get_config, variant: list[str]) -> None:
  """Raise ValueError unless a config file's get_config takes these arguments."""
  try:
    inspect.signature(get_config).bind(*variant)
  except TypeError:
    raise ValueError(
      "define get_config(variant=''), which returns a configuration, such as "
      "recipes.config('kd', 'digits')"
    ) from None


def _where(path: pathlib.Path, error: Exception) -> str:
  lines = [
    frame.lineno
    for frame in traceback.extract_tb(error.__traceback__)
    if frame.filename == str(path)
  ]
  where = f'{path}, line {lines[-1]}' if lines else str(path)
  locked = re.match(r"""['"]*Key "(\w+)" does not exist""", str(error))
  if locked:
    from ensdistill.config import settings

    known = {name.split('.')[-1] for name in names.flatten(settings.default().to_dict())}
    return str(settings.unknown(locked[1], known, f'{where}: '))
  return f'{where}: {type(error).__name__}: {error}'


class _Line(NamedTuple):
  """A command line, read."""

  sources: list[str]  # recipes and config files
  flags: list[str]  # all other arguments
  given: dict[str, str]  # {setting: value as it was typed}


def _read(arguments: list[str], command: str) -> _Line:
  """Return the parts of a command line; refuse what is not a known flag or setting."""
  from ensdistill.config import settings

  defaults = settings.default()
  known = names.flatten(defaults.to_dict())
  line = _Line([], [], {})
  positional = []
  waiting = iter(arguments)
  for argument in waiting:
    flag, equals, value = argument.partition('=')
    name = flag.lstrip('-')
    setting = re.sub(r'^(no)?config\.', '', name)
    if not argument.startswith('-'):
      if equals and not _is_source(argument):
        raise ValueError(_unexpected(argument, known))
      positional.append(argument)
      line.sources.append(argument)
      continue
    if name == 'config':
      line.sources.append(value if equals else next(waiting, ''))
      continue
    if name != 'workdir' and setting == name:
      raise ValueError(_unknown_flag(flag, value, known, command))
    if name != 'workdir' and setting not in known:
      raise ValueError(_unknown_setting(setting, known))
    line.flags.append(argument)
    if not equals and (name == 'workdir' or _kind(setting, defaults) is not bool):
      value = next(waiting, '')
      line.flags.extend([value] if value else [])
    line.given[setting] = value
  surplus = [argument for argument in positional if not _is_source(argument)]
  if len(line.sources) > 1 and surplus:
    raise ValueError(_apart(positional) or _unexpected(surplus[-1], known))
  return line


def _apart(positional: list[str]) -> str:
  """Return the message for a method and a data set that are two arguments; '' for others."""
  from ensdistill.config import recipes

  together = '_'.join(positional)
  if recipes.method_and_data(together.partition(':')[0]) is None:
    return ''
  return f'{" ".join(positional)!r} is one word: {together}. `ensdistill list` shows the recipes.'


def _is_source(argument: str) -> bool:
  """Return whether an argument looks like a recipe or a config file."""
  from ensdistill.config import recipes

  name = argument.partition(':')[0]
  return name.endswith('.py') or bool(recipes.method_and_data(name))


def _source(sources: list[str]) -> str:
  """Return the recipe or config file; raise ValueError unless there is one."""
  if len(sources) > 1:
    raise ValueError(f'two recipes: {" and ".join(sources[:2])}. Name one of them.')
  if sources and sources[0]:
    return sources[0]
  raise ValueError(
    'a recipe is missing: name one, such as kd_digits (`python -m ensdistill.main '
    '--config=kd_digits`), or a config file. `ensdistill list` shows the recipes.'
  )


def _unexpected(argument: str, known) -> str:
  name, equals, value = argument.partition('=')
  hint = _as_flags(name, equals + value, known) if equals else '.'
  return f'unexpected argument {argument!r}{hint} Settings are given as --config.NAME=VALUE.'


def _unknown_flag(flag: str, value: str, known, command: str) -> str:
  name = flag.lstrip('-')
  hint = names.meant(flag, ['--config', *_FLAGS.get(command, ())])
  if name in known or hint == '.':
    hint = _as_flags(name, f'={value}' if value else '', known)
  return f'unknown flag {flag}{hint} `ensdistill {command} --help` shows the flags.'


def _unknown_setting(name: str, known) -> str:
  from ensdistill.config import settings

  inside = [other for other in known if other.startswith(f'{name}.')]
  if name.split('.')[-1] == 'method':
    return (
      f'unknown setting {name!r}: a recipe names the method, such as hydra_digits. `ensdistill '
      'list` shows the methods.'
    )
  if inside:
    return f'{name} is a section of settings, such as --config.{inside[0]}. {settings.LISTING}'
  return str(settings.unknown(name, known, shown='--config.{}'.format))


def _as_flags(name: str, value: str, known) -> str:
  from ensdistill.config import settings

  def flag(setting: str) -> str:
    return f'--config.{setting}{value}'

  return settings.meant(name, known, flag)


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
