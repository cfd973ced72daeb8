"""Every setting has a line of help."""

import re

import pytest

from ensdistill import names, nets, perturb, students
from ensdistill.config import help, settings
from ensdistill.training import optim


def test_every_setting_has_one_line_of_help():
  known = names.flatten(settings.default().to_dict())
  used = set()
  for name in known:
    text = help.help_of(name)
    assert 3 < len(text) <= 76 and text == text.strip() and not text.endswith('.'), name
    used.add(text)
  assert used == set(help.HELP.values()), 'a line of help without its setting'
  assert help.help_of('teacher.optimizer.rate') == help.HELP['optimizer.rate']
  assert help.help_of('student.network.name') != help.help_of('network.name')
  with pytest.raises(KeyError):
    help.help_of('teacher.membrs')


def test_help_lists_the_names_of_the_parts():
  for name, known in (
    ('network.name', nets.NETWORKS),
    ('optimizer.name', optim.OPTIMIZERS),
    ('optimizer.schedule', optim.SCHEDULES),
    ('perturb.name', perturb.PERTURBATIONS),
    ('student.kind', students.STUDENTS),
  ):
    assert set(re.findall(r'\w+', help.HELP[name])) - {'or'} == set(known)


def test_the_default_of_an_unset_setting_is_that_of_its_parts():
  assert help.default_of('seeds', 1) == '1' and help.default_of('name', '') == "''"
  assert help.default_of('sinks', None) == 'unset'  # no part has it
  assert help.default_of('perturb.eta', None) == '1.0'
  default = help.default_of('network.depth', None)
  assert default.startswith('20 in resnet; 28 in wide_resnet; ')
  assert 'batch in resnet, wide_resnet' in help.default_of('network.norm', None)
  assert help.default_of('student.network.depth', None) == (
    "that of network.depth; with student.network.name, the network's own"
  )
  assert 'unset' not in help.default_of('objective.end', None)
  assert '0.6667 in dirichlet, normal_wishart' in help.default_of('objective.end', None)
