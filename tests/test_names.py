"""Names that users choose: errors suggest the nearest known name."""

import functools

import ml_collections
import pytest

from ensdistill import data, names


def test_the_nearest_known_name():
  assert names.nearest('digts', ['digits', 'cifar10']) == 'digits'
  assert names.nearest('digts', ['digits'], cutoff=0.95) is None
  assert names.meant('digts', ['digits']) == ": did you mean 'digits'?"
  assert names.meant('xyzzy', ['digits']) == '.'


def test_an_error_lists_at_most_twelve_names_and_where_the_others_are():
  known = [f'name{i:02}' for i in range(15)]
  message = str(names.unknown('thing', 'xyzzy', known, '`list` lists all.'))
  assert (
    message
    == f"unknown thing 'xyzzy'. known: {', '.join(known[:12])} and 3 more. `list` lists all."
  )
  assert str(names.unknown('thing', 'x', ['a'])) == "unknown thing 'x'. known: a"


def test_a_choice_is_checked():
  names.check('form', 'zero', ('zero', 'reflect'))
  names.check('network', 'mlp', iter(['resnet', 'mlp']))
  for wrong in ('zeros', ['zero'], 0):
    with pytest.raises(ValueError, match='unknown form .* known: reflect, zero'):
      names.check('form', wrong, ('zero', 'reflect'))


def test_an_unknown_setting_names_the_command_that_lists_all():
  with pytest.raises(
    ValueError, match='known: depth. `ensdistill config --all` lists all settings'
  ):
    names.check_settings('resnet', {'hidden': 3}, ['depth'])


def test_an_unknown_data_set_names_its_missing_file(tmp_path):
  with pytest.raises(ValueError) as error:
    data.load('boston', dir=str(tmp_path))
  text = str(error.value)
  assert f'{tmp_path} has no boston.npz: set data.dir to its folder.' in text
  assert text.startswith("unknown data set 'boston'.") and '`ensdistill data --help`' in text


def test_a_taken_name_is_refused_unless_it_is_the_same_part():
  def part():
    return 1

  parts = names.Registry('objective', {'mean': len})
  parts['own'] = part
  parts['own'] = part
  with pytest.raises(
    ValueError, match="objective 'mean' is defined twice, in builtins and in .*py"
  ):
    parts['mean'] = part


def test_partials_are_parts_of_their_functions():
  parts = names.Registry('objective', {})
  parts['own'] = functools.partial(data.load, name='digits')
  parts['own'] = functools.partial(data.load, name='spirals')  # of the same file
  with pytest.raises(ValueError, match="'own' is defined twice, in .*py and in .*names.py"):
    parts['own'] = functools.partial(names.nearest, cutoff=0.1)


def test_parts_of_unknown_origin_are_different():
  parts = names.Registry('objective', {'own': str.upper})
  parts['own'] = str.upper
  with pytest.raises(ValueError, match="'own' is defined twice, as <method 'upper'"):
    parts['own'] = str.lower


def test_a_value_in_an_error_is_short():
  assert names.short_repr("it's") == '"it\'s"'
  assert names.short_repr('x' * 58) == repr('x' * 58)
  assert names.short_repr('x' * 59) == f"'{'x' * 56}..."
  assert names.short_repr(-(10**5000)) == '-10^5000'


def test_nested_settings_are_flattened():
  inner = ml_collections.ConfigDict({'steps': 3, 'optimizer': {'rate': 0.1}})
  found = names.flatten({'seed': 0, 'student': inner, 'empty': {}})
  assert found == {'seed': 0, 'student.steps': 3, 'student.optimizer.rate': 0.1}
