"""Every setting has a line of help."""

import re

import pytest

from ensdistill import nets, perturb, students
from ensdistill.config import help, identity, settings
from ensdistill.training import optim


def test_every_setting_has_one_line_of_help():
  known = identity.flatten(settings.default().to_dict())
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
