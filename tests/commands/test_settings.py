"""The command `ensdistill config`."""

import pytest

from ensdistill import names
from ensdistill.commands import settings as command
from ensdistill.config import help, recipes, settings


def test_the_settings_of_a_recipe(capsys):
  command.main(['hydra_cifar100:small', '--config.seed=3'])
  lines = capsys.readouterr().out.splitlines()
  assert 'seed = 3' in lines and 'teacher.steps = 200' in lines and 'augment.crop = 4' in lines
  flat = names.flatten(recipes.make('hydra', 'cifar100', 'small').to_dict())
  assert len([line for line in lines if ' = ' in line]) == len(
    [value for value in flat.values() if value is not None]
  )


def test_all_settings_with_default_and_help(capsys):
  command.main(['--all'])
  lines = capsys.readouterr().out.splitlines()
  flat = names.flatten(settings.default().to_dict())
  assert [line.split(' = ')[0] for line in lines if line[0] != ' '] == list(flat)
  assert lines[lines.index('teacher.members = 4') + 1].strip() == help.HELP['teacher.members']
  assert lines[lines.index('network.depth = unset') + 2].startswith('    default: 20 in resnet; ')
  assert "workdir = ''" in lines
  assert max(map(len, lines)) <= 80


def test_all_settings_without_a_recipe_take_changes(capsys):
  command.main(['--config.seed=1', '--all'])
  lines = capsys.readouterr().out.splitlines()
  assert lines[lines.index('seed = 1') + 2] == '    default: 0'


def test_all_settings_of_a_recipe_beside_their_defaults(capsys):
  command.main(['kd_digits', '--all'])
  lines = capsys.readouterr().out.splitlines()
  assert lines[lines.index('teacher.steps = 150') + 2] == '    default: 0'
  assert lines[lines.index('network.depth = 8') + 2].startswith('    default: 20 in resnet; ')
  assert lines[lines.index('seeds = 1') + 2][0] != ' '  # its default


@pytest.mark.parametrize(
  'arguments, message', [([], 'name a recipe'), (['kd_digts'], "did you mean 'kd_digits'?")]
)
def test_wrong_usage(arguments, message, capsys):
  with pytest.raises(SystemExit) as exit:
    command.main(arguments)
  err = capsys.readouterr().err
  assert exit.value.code == 2 and err.count('\n') == 1 and message in err
