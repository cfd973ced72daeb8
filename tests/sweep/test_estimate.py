"""Estimates of a sweep's time."""

import pytest
from sweeps import record

from ensdistill.config import recipes
from ensdistill.logs import events
from ensdistill.sweep import estimate, plan
from ensdistill.sweep.estimate import Cost, Stage
from ensdistill.sweep.jobs import Kind, every


def kinds(*methods):
  return [Kind(m, 'digits', '', {}, recipes.make(m, 'digits')) for m in methods]


def test_each_teacher_is_trained_once():
  kd, hydra = kinds('kd', 'hydra')
  jobs = every([kd, hydra], teachers=3, seeds=2)
  costs = {kd.name: Cost(10, 0), hydra.name: Cost(20, 100)}  # kd found the teacher of hydra
  assert estimate.seconds(jobs, [], costs) == 6 * 30 + 3 * 100
  assert estimate.seconds(jobs[2:], [(kd.ensemble, 0)], costs) == 5 * 30 + 2 * 100
  assert estimate.seconds(jobs, [], {kd.name: Cost(10, 50)}) == 12 * 10 + 3 * 50
  assert estimate.seconds(jobs, [], {}) is None and estimate.seconds([], [], {}) == 0


def test_costs_of_records():
  made = [record('kd', t, 0, 0.9) | {'kind': 'kd', 'seconds': 5.0 + t} for t in (0, 1)]
  made[1]['timings'] = {'teacher': 0.0}
  assert estimate.of_records(made) == {'kd': Cost((4 + 6) / 2, 1.0)}


@pytest.fixture
def stage(tmp_path, monkeypatch):
  """Write a stage whose steps take 2 s and whose validations take 3 s, after 50 s of compiling."""

  def write(name):
    folder = tmp_path / 'tb'
    folder.mkdir(exist_ok=True)
    now = 50.0
    monkeypatch.setattr(events.time, 'time', lambda: now)
    with open(folder / events.file_name(), 'wb') as file:
      written = events.Events(file)
      for step in range(1, 25):
        now += 2.0
        if step % 6 == 0:
          written.summary(step, [events.scalar(f'{name}/loss', 1.0)])
        if step % 12 == 0:
          now += 3.0
          written.summary(step, [events.scalar(f'{name}/valid_nll', 1.0)])
      written.close()
    return folder

  return write


def test_rates_are_those_of_the_logged_points(stage):
  assert estimate.rates(stage('student'), 'student') == pytest.approx((2.0, 3.0))


def test_a_smoke_run_gives_the_cost_of_the_whole(stage, tmp_path):
  stage('teacher'), stage('student')
  full = [Stage('teacher', 124, 12), Stage('student', 224, 22)]
  short = [Stage('teacher', 24, 2), Stage('student', 24, 2)]
  found = estimate.of_smoke(tmp_path, 300.0, {'teacher': 110.0}, full, short)
  assert found == pytest.approx((190 + 200 * 2 + 20 * 3, 110 + 100 * 2 + 10 * 3))


def test_costs_are_read_back(tmp_path):
  path = tmp_path / 'costs.json'
  assert estimate.read(path) == {}
  estimate.write(path, {'kd': Cost(1.0, 2.0)})
  assert estimate.read(path) == {'kd': Cost(1.0, 2.0)}


@pytest.mark.parametrize('seconds,text', [(41, '41 s'), (720, '12 min'), (9000, '2.5 h')])
def test_durations(seconds, text):
  assert plan.duration(seconds) == text
