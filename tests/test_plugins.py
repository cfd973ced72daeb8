"""Custom parts by name: what is imported, recorded, refused."""

import pathlib

import own_parts
import pytest
import tiny

from ensdistill import nets, objectives, plugins
from ensdistill.commands import listing
from ensdistill.commands.arguments import configuration, load
from ensdistill.config import help, identity, imported, settings

OBJECTIVE = """
from ensdistill import objectives

def mine(*, sharp: float = 2.0, temperature=1.0):
  return objectives.Objective('mine', lambda family, ours, theirs: (ours[:, 0, 0], {}))

objectives.OBJECTIVES['mine'] = mine
"""
NETWORK = """
import flax.linen as nn

class Net(nn.Module):
  units: int = 4

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.units)(x.reshape((len(x), -1)))
"""


@pytest.fixture(autouse=True)
def no_imports():
  with own_parts.forgotten():
    yield


def written(folder, name='my.py', text=OBJECTIVE):
  path = folder / name
  path.parent.mkdir(exist_ok=True, parents=True)
  path.write_text(text)
  return str(path)


def digest(path):
  import hashlib

  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def with_own(path, *flags):
  own = ['--config.objective.name=mine', '--config.objective.sharp=3', *flags]
  return configuration(['kd_digits', f'--import={path}', *own])[0]


def test_an_import_has_settings_and_is_recorded(tmp_path):
  path = written(tmp_path)
  config = with_own(path)
  assert config.objective.sharp == 3.0 and config.objective.temperature == 4.0  # the recipe's
  assert (config.imports, config.imports_content) == (path, digest(path))
  assert help.help_of('objective.sharp') == 'setting of mine'
  assert imported.stored(config) == [
    {'name': 'my.py', 'sha256': digest(path), 'parts': [['objective', 'mine']]}
  ]
  other, _ = configuration(['kd_digits', '--import', path])  # uses none of its parts
  assert (other.imports, other.imports_content, imported.stored(other)) == (None, None, [])
  plain, _ = configuration(['kd_digits'])
  assert identity.decisive(other) == identity.decisive(plain)


def test_the_digest_decides_the_run_and_the_path_does_not(tmp_path):
  first = identity.decisive(with_own(written(tmp_path / 'a')))
  own_parts.forget()
  assert identity.decisive(with_own(written(tmp_path / 'b'))) == first
  own_parts.forget()
  changed = identity.decisive(with_own(written(tmp_path / 'b', text=f'{OBJECTIVE}\n# changed')))
  assert identity.differences(first, changed)[0].startswith('imports_content: ')


def test_an_import_without_parts_is_recorded_for_it_may_change_anything(tmp_path):
  path = written(tmp_path, text='import ensdistill.perturb')
  config, _ = configuration(['kd_digits', f'--config.imports={path}'])
  assert (config.imports, config.imports_content) == (path, digest(path))


def test_a_changed_file_is_imported_again(tmp_path):
  assert 'sharp' in with_own(written(tmp_path)).objective
  path = written(tmp_path, text=OBJECTIVE.replace('sharp', 'blunt'))
  config, _ = configuration(['kd_digits', f'--import={path}', '--config.objective.blunt=1'])
  assert config.objective.blunt == 1 and 'sharp' not in config.objective


def test_imports_of_a_config_file(tmp_path):
  path = written(tmp_path)
  config_file = written(
    tmp_path,
    'config.py',
    "from ensdistill.config import recipes\nimports = ('my.py',)\n"
    "def get_config(variant=''):\n  config = recipes.make('kd', 'digits', variant)\n"
    "  config.objective.name = 'mine'\n  config.objective.sharp = 5.0\n  return config\n",
  )
  config, _ = configuration([config_file, '--config.objective.temperature=2'])
  assert config.imports_content == digest(path) and config.objective.sharp == 5
  own_parts.forget()
  assert load(config_file).objective.sharp == 5
  for wrong in ("imports = 'my.py'", 'imports = (3,)', 'imports = made()'):
    with pytest.raises(ValueError, match='imports must list files or modules'):
      load(written(tmp_path, 'wrong.py', wrong))


def test_a_config_file_that_registers_parts_is_stored_but_decides_nothing(tmp_path):
  text = OBJECTIVE + (
    "\nfrom ensdistill.config import recipes\ndef get_config(variant=''):\n"
    "  config = recipes.make('kd', 'digits', variant)\n  config.objective.name = 'mine'\n"
    '  return config\n'
  )
  path = written(tmp_path, 'own_config.py', text)
  config, _ = configuration([path])
  assert config.imports_content is None
  (entry,) = imported.stored(config)
  assert entry == {
    'name': 'own_config.py',
    'sha256': digest(path),
    'parts': [['objective', 'mine']],
  }
  own_parts.forget()
  assert plugins.recall([entry], [path]) == []


def test_parts_that_a_program_registers_are_stored_with_its_module():
  objectives.OBJECTIVES['program'] = lambda: None
  config = tiny.config(objective__name='program')
  (entry,) = imported.stored(config)
  assert entry['name'] == __name__ and entry['sha256'] == digest(__file__)
  imported.record(config)
  assert config.imports_content is None


def test_networks_by_file_and_function(tmp_path):
  path = written(tmp_path / 'deep', 'net.py', NETWORK)
  flags = [f'--config.network.name={path}:Net', '--config.network.units=8']
  config, _ = configuration(['kd_digits', *flags])
  assert config.network.name == 'net.py:Net' and config.network.units == 8
  assert config.network.depth is None and config.network.content == digest(path)
  assert (config.imports, config.imports_content) == (f'{path}:Net', digest(path))
  assert nets.build('net.py:Net', shape=(8, 8, 1), mean=(0.3,), std=(0.4,), units=8).whole
  (entry,) = imported.stored(config)
  own_parts.forget()
  with pytest.raises(
    plugins.Missing, match=r"network 'net.py:Net' of net.py.*imports='net.py:Net'"
  ):
    plugins.recall([entry], [])
  assert plugins.recall([entry], [f'{path}:Net']) == [] and 'net.py:Net' in nets.NETWORKS
  config = tiny.config(network__name=f'{path}:Net', network__hidden=None)
  imported.record(config)
  assert config.network.name == 'net.py:Net' and config.network.content == digest(path)


def test_what_a_stored_student_needs(tmp_path):
  path = written(tmp_path)
  entries = imported.stored(with_own(path))
  own_parts.forget()
  with pytest.raises(plugins.Missing, match="needs objective 'mine' of my.py.*--import=my.py"):
    plugins.recall(entries, [])
  assert 'mine' not in objectives.OBJECTIVES
  written(tmp_path, text=f'{OBJECTIVE}\n# changed')
  (line,) = plugins.recall(entries, [path])
  assert 'differs from the my.py of the training' in line and '\n' not in line
  moved = [entry | {'parts': [['perturbation', 'p']]} for entry in entries]
  own_parts.forget()
  assert plugins.recall(moved, []) == []  # a student holds no perturbation
  with pytest.raises(plugins.Missing, match='needs what it registers of my.py'):
    plugins.recall([entry | {'parts': []} for entry in entries], [])


WRONG = {
  'mine(3': 'cannot be imported: SyntaxError',
  'raise OSError("no disk")': 'cannot be imported: OSError: no disk',
  OBJECTIVE.replace("['mine']", "['mean']"): "objective 'mean' is defined twice",
  OBJECTIVE.replace(
    'mine(*, ', 'mine(ratio, *, '
  ): "objective 'mine' must be a function of .*ratio",
  "from ensdistill import students\nstudents.STUDENTS['a'] = 3": "student 'a' is a int, not a f",
  OBJECTIVE.replace('1.0', '1'): "'temperature' is int in 'mine' and float in 'mean'",
  OBJECTIVE.replace('sharp: float = 2.0', 'label_weight=0.0'): "'label_weight' of 'mine' is a n",
  OBJECTIVE.replace('sharp: float = 2.0', 'sharp=None'): "'sharp' of 'mine' is None: annotate it",
}


@pytest.mark.parametrize('text', WRONG)
def test_wrong_imports_are_one_line(tmp_path, text):
  path = written(tmp_path, text=text)
  with pytest.raises(ValueError, match=WRONG[text]) as error:
    configuration(['kd_digits', f'--import={path}'])
  assert '\n' not in str(error.value)


def test_two_plugins_with_one_name(tmp_path):
  flags = [f'--import={written(tmp_path / folder)}' for folder in 'ab']
  with pytest.raises(ValueError, match=r"'mine' is defined twice, in .*a/my.py and in .*b/my.py"):
    configuration(['kd_digits', *flags])


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--import='], '--import is empty'),
    (['--import'], '--import is empty'),
    (['--import=nowhere.py'], 'FileNotFoundError: no file nowhere.py'),
    (['--import=no.such.module'], "No module named 'no'"),
    (['--import=a.py,b.py'], 'must not have a comma'),
    (['--config.network.name=nowhere.py:f'], 'no file nowhere.py'),
    (['--config.network.name=math:nothing'], "math has no 'nothing'"),
    (['--config.network.name=math:pi'], 'math:pi is a float, not a function'),
    (['--imprt=a.py'], "did you mean '--import'"),
  ],
)
def test_wrong_flags_are_one_line(flags, message):
  with pytest.raises(ValueError, match=message) as error:
    configuration(['kd_digits', *flags])
  assert '\n' not in str(error.value)


class Entry:
  """An entry point of an installed package."""

  class dist:
    name = 'my-package'

  def __init__(self, module):
    self.module = self.value = module


def test_installed_packages(tmp_path, monkeypatch, capsys):
  package = tmp_path / 'installed_parts'
  written(package, '__init__.py', 'from installed_parts import inner')
  written(package, 'inner.py', OBJECTIVE)
  monkeypatch.syspath_prepend(tmp_path)
  entries = [Entry('installed_parts')]
  monkeypatch.setattr(plugins.metadata, 'entry_points', lambda group: entries)
  config, _ = configuration(['kd_digits', '--config.objective.name=mine'])
  assert config.imports == 'installed_parts' and len(config.imports_content) == 64
  assert configuration(['kd_digits'])[0].imports is None
  listing.main([])
  assert 'mine                objective     installed_parts' in capsys.readouterr().out
  entries.append(Entry('no_such_package'))
  with pytest.raises(
    ValueError, match="plugin 'no_such_package' of the installed package 'my-pack"
  ):
    configuration(['kd_digits'])


def test_no_import_changes_a_setting_of_the_package():
  assert settings.default().imports is None
  assert len(plugins.loaded()) == 0
