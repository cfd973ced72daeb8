"""Jobs: names, combinations of settings, and the order of the queue."""

import pytest

from ensdistill.config import recipes
from ensdistill.sweep import jobs
from ensdistill.sweep.jobs import Job, Kind

METHODS = ('kd', 'hydra', 'be_confods')


def kind(method='kd', **settings):
  settings = {name.replace('__', '.'): value for name, value in settings.items()}
  config = recipes.make(method, 'digits', 'small')
  config.update_from_flattened_dict(settings)
  return Kind(method, 'digits', 'small', settings, config)


@pytest.mark.parametrize(
  'text,values',
  [
    ('1,2', ['1', '2']),
    ('(64,64),(128,)', ['(64,64)', '(128,)']),
    ("'mnist,svhn',none", ["'mnist,svhn'", 'none']),
    ('', ['']),
  ],
)
def test_commas_in_brackets_and_quotes_do_not_separate(text, values):
  assert jobs.split(text) == values


def test_set():
  assert jobs.parse_set('perturb.eta=1,2', METHODS) == ((), 'perturb.eta', ['1', '2'])
  found = jobs.parse_set('kd,hydra:--config.x'.replace('--', '') + '=a', METHODS)
  assert found == (('kd', 'hydra'), 'x', ['a'])
  assert jobs.parse_set("evaluate.ood='a,b','c'", METHODS).values == ['a,b', 'c']


@pytest.mark.parametrize(
  'text,message',
  [
    ('perturb.eta', 'write PATH=V1,V2'),
    (':perturb.eta=1', 'write PATH=V1,V2'),
    ('hydr:perturb.eta=1', "did you mean 'hydra'?"),
    ('seed=1,2', '--first-seed=N'),
    ('student.seed=1,2', '--seeds=N'),
    ('perturb.eta=1,1', 'given twice'),
    ('network.hidden=(1,2', 'not closed'),
  ],
)
def test_a_wrong_set_is_one_line(text, message):
  with pytest.raises(ValueError, match='.') as error:
    jobs.parse_set(text, METHODS)
  assert message in str(error.value) and '\n' not in str(error.value)


def test_combinations_of_a_method():
  settings = [jobs.parse_set(s, METHODS) for s in ('a=1,2', 'b=x', 'hydra:b=y,z')]
  assert jobs.combinations(settings, 'kd') == [{'a': '1', 'b': 'x'}, {'a': '2', 'b': 'x'}]
  assert len(jobs.combinations(settings, 'hydra')) == 4
  assert jobs.combinations([], 'kd') == [{}]


def test_teachers_come_before_seeds():
  kinds = [kind(), kind('hydra')]
  found = jobs.every(kinds, teachers=2, seeds=2)
  assert [(job.kind.method, job.teacher, job.seed) for job in found[:5]] == [
    ('kd', 0, 0), ('hydra', 0, 0), ('kd', 1, 0), ('hydra', 1, 0), ('kd', 0, 1)
  ]  # fmt: skip
  assert len(found) == len({job.name for job in found}) == 8


def test_names_are_names_of_files():
  assert Job(kind(), 0, 1).name == 'kd_digits_small__t0_s1'
  name = kind(data__name='npz:some/file', network__hidden=(8,)).name
  assert '/' not in name and len(name) < 140
  assert name != kind(data__name='npz:some-file', network__hidden=(8,)).name
  assert kind(network__hidden=(8,)).label == 'kd (network.hidden=(8,))'


def test_only_what_decides_the_teacher_names_it():
  same = [kind(), kind('hydra'), kind(student__steps=3), kind(teacher__members=2)]
  assert len({k.ensemble for k in same}) == 1
  other = [kind(teacher__steps=3), kind(data__limit=5), kind(network__depth=14), kind(scores=3)]
  assert len({k.ensemble for k in [*same, *other]}) == 5


def test_the_first_job_has_the_settings_of_train():
  one = kind()
  assert Job(one, 0, 0).decisive == jobs.identity.decisive(one.config)
  assert Job(one, 2, 1).numbers == {'seed': 2, 'student.seed': 1}
