"""The benchmark of exported files: every network in every runtime, and the table."""

import exported
import pytest

from benchmarks import export as benchmark
from ensdistill.exporting import inference


@pytest.mark.slow
def test_every_network_is_timed_in_every_runtime():
  pytest.importorskip('onnxruntime')
  every = dict.fromkeys(('member', 'student'), inference.of(exported.student(shape=(3,))))
  taken = benchmark.measure(every, seconds=0, turn=0.001)
  assert len(taken) == 2 * 3 * 2 and all(min(values) > 0 for values in taken.values())
  head, _, *rows = benchmark.table(taken).splitlines()
  assert head.count('|') == 8 and [row.split(' | ')[0] for row in rows] == ['| member', '| student']


@pytest.mark.slow
def test_the_command_measures_a_run(tmp_path, monkeypatch, capsys):
  pytest.importorskip('onnxruntime')
  quick = ('teacher.steps=4', 'teacher.members=2', 'student.steps=4', 'evaluate.shift=none')
  recipe = benchmark.recipes.make('kd', 'digits', 'small')
  for setting in quick:
    name, _, value = setting.partition('=')
    recipe.update_from_flattened_dict({name: int(value) if value.isdigit() else value})
  monkeypatch.setattr(benchmark.recipes, 'make', lambda *arguments: recipe)
  monkeypatch.setattr('sys.argv', ['export', '--quick', f'--workdir={tmp_path / "run"}'])
  benchmark.main()
  assert '| ensemble of 2 |' in capsys.readouterr().out
