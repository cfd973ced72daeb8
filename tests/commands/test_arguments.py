"""Command lines and the configurations they give; each mistake is one short line."""

import pytest
import shaped

from ensdistill.commands import arguments
from ensdistill.commands.arguments import configuration
from ensdistill.config import recipes, settings
from ensdistill.processes import joining

KD = shaped.ROOT / 'configs' / 'kd_digits.py'


@pytest.mark.parametrize(
  'arguments',
  [
    ['kd_digits:small'],
    ['--config=kd_digits:small'],
    ['--config', 'kd_digits:small'],
    [f'{KD}:small'],
    [f'--config={KD}:small'],
    ['-config', f'{KD}:small'],
  ],
)
def test_recipes_and_config_files_give_the_same(arguments):
  config, workdir = configuration(arguments)
  assert config.to_dict() == recipes.make('kd', 'digits', 'small').to_dict()
  assert config.is_locked and workdir is None


def test_settings_are_changed_by_their_names():
  config, workdir = configuration(
    [
      *('--workdir', 'runs/a', '--config=kd_digits', '--config.seed=3', '--config.seeds', '2'),
      *('--config.augment.flip', '--noconfig.student.optimizer.nesterov'),
      *('--config.teacher.optimizer.rate=1', '--config.data.valid=50', '-config.data.limit=-1'),
      *('--config.network.name=mlp', '--config.network.hidden=(8,4)'),
      '--config.objective.name=proxy_dirichlet',
    ]
  )
  assert workdir == 'runs/a'
  assert (config.seed, config.seeds, config.data.valid, config.data.limit) == (3, 2, 50, -1)
  assert config.augment.flip is True and config.student.optimizer.nesterov is False
  assert config.teacher.optimizer.rate == 1.0
  assert config.network.hidden == (8, 4) and config.network.depth is None  # of the resnet
  assert config.objective.temperature is None  # of the recipe's objective


def test_tuples_by_repetition_and_flags_from_a_file(tmp_path):
  (tmp_path / 'flags').write_text('--config.network.hidden=8\n--config.network.hidden=4\n')
  config, _ = configuration(['kd_spirals', f'--flagfile={tmp_path}/flags'])
  assert config.network.hidden == (8, 4)


WRONG = [
  ([], 'a recipe is missing', '`ensdistill list`'),
  (['--config'], 'a recipe is missing', '`ensdistill list`'),
  (['hydra_cifr100'], "did you mean 'hydra_cifar100'?", '`ensdistill list`'),
  (['--config=hydra_cifr100:small'], "did you mean 'hydra_cifar100'?", '`ensdistill list`'),
  (['zzz'], "unknown recipe 'zzz'.", '`ensdistill list`'),
  (['hydra'], 'hydra is a method: add a data set, such as hydra_digits.', '`ensdistill list`'),
  (['nw:small'], 'nw is a method: add a data set, such as nw_toy1d.', '`ensdistill list`'),
  (['digits'], 'put a method before it, such as kd_digits.', '`ensdistill list`'),
  (['kd_digits', '--config=hydra_digits'], 'two recipes: kd_digits and hydra_digits.', 'Name one'),
  (['kd_digits', 'hydra_digits'], 'two recipes: kd_digits and hydra_digits.', 'Name one'),
  (['--config.seed=1', 'kd_digts'], "did you mean 'kd_digits'?", '`ensdistill list`'),
  (['--config='], 'a recipe is missing', '`ensdistill list`'),
  (['--config=.'], '. is a folder: name a recipe or a config file.', '`ensdistill list`'),
  (['--confg=kd_digits'], "flag --confg: did you mean '--config'?", '`ensdistill train --help`'),
  (['kd_digits:smal'], "unknown variant 'smal': did you mean 'small'?", '`ensdistill list`'),
  (['kd_mnist:paper'], "kd_mnist has no variant 'paper'", '`ensdistill list --papers`'),
  (['configs/nowhere/kd_digits.py'], "the recipe 'kd_digits' works", '`ensdistill list`'),
  (['nowhere/kd_digit.py'], "did you mean 'kd_digits'?", '`ensdistill list`'),
  ([f'{KD}t'.replace('.pyt', 't.py')], f'did you mean {str(KD)!r}?', '`ensdistill list`'),
  ([f'{KD}:smal'], "did you mean 'small'?", '`ensdistill list`'),
  (['kd_digits', '--config.optimizer.lr=3'], 'student.optimizer.rate or', 'config --all`'),
  (['kd_digits', '--config.teacher.member=3'], '--config.teacher.members?', 'config --all`'),
  (['kd_digits', '--config.optimiser.rate=3'], 'optimizer.rate?', 'config --all`'),
  (['kd_digits', '--config.student=3'], 'student is a section of settings', 'config --all`'),
  (['kd_digits', '--config.zzz.zzz=3'], "unknown setting 'zzz.zzz'.", 'config --all`'),
  (['kd_digits', '--seed=3'], 'did you mean --config.seed=3?', '`ensdistill train --help`'),
  (['kd_digits', '--wrkdir=3'], "did you mean '--workdir'?", '`ensdistill train --help`'),
  (['kd_digits', '--zzz'], 'unknown flag --zzz.', '`ensdistill train --help`'),
  (['kd_digits', 'members=three'], '--config.teacher.members=three', '--config.NAME=VALUE'),
  (['kd', 'digits'], "'kd digits' is one word: kd_digits.", '`ensdistill list`'),
  (['kd', 'digits:small'], 'one word: kd_digits:small.', '`ensdistill list`'),
  (['kd_digits', '--config.method=hydra'], 'a recipe names the method', '`ensdistill list`'),
  (['kd_digits', '--config.student.lr=3'], '--config.student.optimizer.rate?', 'config --all`'),
  (['kd_digits', 'surplus'], "unexpected argument 'surplus'.", '--config.NAME=VALUE'),
  (['kd_digits', '--config.teacher.members=three'], "members='three' must be a whole number", ''),
  (['kd_digits', '--config.teacher.steps', '1.5'], "steps='1.5' must be a whole number", ''),
  (['kd_digits', '--config.data.valid=x'], "valid='x' must be a whole number", ''),
  (['kd_digits', '--config.objective.label_weight=x'], "label_weight='x' must be a number", ''),
  (['kd_digits', '--config.augment.flip=maybe'], "flip='maybe' must be true or false", ''),
  (['kd_digits', '--config.network.hidden=(8,'], "hidden='(8,' must be numbers", ''),
  (['kd_spirals', '--config.network.hidden=abc'], "hidden='abc' must be numbers", '(64,64)'),
  (['kd_digits', '--config.seed'], 'Missing value for flag --config.seed', ''),
  (['kd_digits', '--workdir'], 'Missing value for flag --workdir', ''),
]


@pytest.mark.parametrize('arguments, message, remedy', WRONG)
def test_mistakes_are_one_short_line(arguments, message, remedy):
  with pytest.raises(ValueError) as error:
    configuration(arguments)
  text = str(error.value)
  assert message in text and remedy in text, text
  assert '\n' not in text and len(text) < 300


@pytest.mark.parametrize('line', ['from configs import common', 'import configs.common'])
def test_an_old_config_file_is_told_what_to_import(tmp_path, line):
  path = tmp_path / 'mine.py'
  path.write_text(f"{line}\n\ndef get_config():\n  return common.make('kd', 'digits')\n")
  with pytest.raises(ValueError) as error:
    configuration([str(path)])
  assert str(error.value) == (
    "configs.common is now ensdistill.config.recipes: write 'from ensdistill.config import "
    f"recipes' and 'get_config = recipes.config(METHOD, DATA)' in {path}"
  )


MADE = """from ensdistill.config import recipes

def get_config(variant=''):
  c = recipes.make('kd', 'spirals')
"""


@pytest.mark.parametrize(
  'text, message',
  [
    ('import nowhere_to_be_found', 'line 1: ModuleNotFoundError'),
    ('\nx = [', 'SyntaxError'),
    ('def get_config():\n  return undefined', 'line 2: NameError'),
    ('def get_config():\n  return {}', 'get_config returns a dict, not a ConfigDict'),
    ('', "define get_config(variant='')"),
    ('def get_config(size):\n  return size', "define get_config(variant='')"),
    (MADE + '  c.teacher.membrs = 3\n  return c', "line 5: unknown setting 'membrs': did you mean"),
    (MADE + '  with c.unlocked():\n    c.teacher.membrs = 3\n  return c', "'teacher.members'?"),
    (MADE + '  with c.unlocked():\n    del c.seed\n  return c', "the setting 'seed' is missing"),
    (MADE + "  c.network.hidden = ('a',)\n  return c", 'must be numbers such as (64,64)'),
  ],
)
def test_a_broken_config_file_is_named_with_its_line(tmp_path, text, message):
  path = tmp_path / 'mine.py'
  path.write_text(text)
  with pytest.raises(ValueError) as error:
    configuration([str(path)])
  text = str(error.value)
  assert message in text and len(text) < 300 and '\n' not in text
  assert text.startswith((str(path), '--config.network.hidden='))


def test_a_config_file_without_variants_says_how_to_define_them(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(MADE.replace("variant=''", '') + '  return c\n')
  config, _ = configuration([str(path)])
  assert config.to_dict() == recipes.make('kd', 'spirals').to_dict()
  with pytest.raises(ValueError, match=r"mine.py: define get_config\(variant=''\)"):
    configuration([f'{path}:small'])


def test_a_file_in_the_current_folder_does_not_hide_a_recipe(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'kd_digits').write_text('')
  (tmp_path / 'setup.py').write_text('')
  config, _ = configuration(['--config.seed', '3', 'kd_digits:small', '--config.augment.flip'])
  assert (config.name, config.seed, config.augment.flip) == ('kd_digits_small', 3, True)
  with pytest.raises(ValueError, match='^no config file nosuch.py. `ensdistill list`'):
    configuration(['nosuch.py'])


def test_the_default_stands_where_no_recipe_is_named():
  default = settings.default()
  config, _ = configuration(['--config.seed=1'], default=default, command='config')
  assert config.to_dict() == settings.default().to_dict() | {'seed': 1}
  with pytest.raises(ValueError, match=r"'--all'\? `ensdistill config --help` shows the flags"):
    configuration(['kd_digits', '--al'], command='config')


def test_the_flags_of_processes_are_taken_out_of_a_command_line():
  line = ['kd_digits', '--coordinator=h:1', '--num_processes', '4', '-process_id=3', '--workdir=a']
  assert arguments.place(line) == (['kd_digits', '--workdir=a'], joining.Place('h:1', 4, 3))
  assert arguments.place(['kd_digits']) == (['kd_digits'], joining.UNKNOWN)
  with pytest.raises(ValueError, match="--process_id='one' must be a whole number"):
    arguments.place(['--process_id=one'])
