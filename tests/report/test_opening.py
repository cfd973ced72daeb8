"""The first lines of a run fit a terminal and say what will happen."""

import json

import tiny

from ensdistill import report


def test_the_first_lines_say_what_will_happen(tmp_path):
  changes = dict(evaluate__ood='notmnist', evaluate__shift='all', perturb__name='gaussian')
  config = tiny.config(name='kd_tiny', seeds=2, **changes)
  plan = tiny.plan(config, tiny.dataset(), tmp_path / 'a_long_name_of_a_folder' / 'kd_tiny')
  lines = report.opening(plan)
  text = ' '.join(' '.join(lines).split())
  assert lines[0].startswith('kd_tiny: tiny, 48 / 24 / 24 train / validation / test examples')
  for part in ('3 networks', 'perturbed by gaussian, 2 students', 'of distribution (notmnist)'):
    assert part in text
  assert ' more)' in text and 'gaussian_noise, ' in text
  assert f'{plan.folder}/report.html' in text and f'tensorboard --logdir {plan.folder}' in text
  assert 'each stage shows the time' in text and 'took' not in text
  short = [line for line in lines if str(tmp_path) not in line]
  assert max(map(len, short)) <= 80 and len(lines) < 15


def test_sets_that_do_not_exist_are_not_announced(tmp_path):
  config = tiny.config(evaluate__ood='default', evaluate__shift='none')
  text = ' '.join(report.opening(tiny.plan(config, tiny.dataset(), tmp_path)))
  assert 'evaluation  the test set ' in f'{text} ' and 'distribution' not in text


def test_a_reduced_recipe_says_so(tmp_path):
  for name, said in (('kd_tiny_small', True), ('kd_tiny', False)):
    plan = tiny.plan(tiny.config(name=name), tiny.dataset(), tmp_path / name)
    assert any('a reduced recipe' in line for line in report.opening(plan)) == said


def test_an_earlier_run_of_the_name_gives_the_time(tmp_path):
  plan = tiny.plan(tiny.config(name='kd_tiny'), tiny.dataset(), tmp_path / 'kd_tiny_2')
  for folder, name, seconds in (('kd_tiny', 'kd_tiny', 60.0), ('hydra', 'hydra_tiny', 900.0)):
    (tmp_path / folder).mkdir()
    results = {'name': name, 'timings': {'teacher': seconds, 'student': 45.0}}
    (tmp_path / folder / 'results.json').write_text(json.dumps(results))
  (tmp_path / 'damaged').mkdir()
  (tmp_path / 'damaged' / 'results.json').write_text('[')
  text = ' '.join(' '.join(report.opening(plan)).split())
  assert f'{tmp_path}/kd_tiny took 1:45' in text and '16:' not in text
