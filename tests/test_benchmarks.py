"""The contenders of the benchmarks do the same work: equal states lead to equal states."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from benchmarks import input as benchmark_of_input
from benchmarks import members as members_benchmark
from benchmarks import problems, steps, timing
from ensdistill import data, members
from ensdistill.training import loop
from ensdistill.training import step as train
from ensdistill.training.feed import OnDevice
from ensdistill.training.logs import Logs

METHODS = ('kd', *steps.PERTURBED)


def both(network, method, batch=8):
  """Return the problem, the first state, one batch, and the state and logs after our step."""
  problem = problems.problem(problems.Row(network, 3, batch, method))
  state = members.take(problem.states, 0)
  draw = jax.jit(lambda arrays: OnDevice(arrays, batch).draw(arrays, state))
  drawn = draw(jax.device_put(problem.feed.arrays))

  def step(state, batch, teachers):
    return train.train_step(state, batch, problems.frozen(problem, teachers), problem.method)

  return problem, state, drawn, *jax.jit(step)(state, drawn, problem.teachers)


@pytest.mark.parametrize(
  'network, method',
  [
    ('mlp', 'kd'),
    ('mlp', 'be_confods'),
    pytest.param('wrn10-1', 'teacher', marks=pytest.mark.slow),
    pytest.param('wrn10-1', 'latentbe_tdiv_sdiv', marks=pytest.mark.slow),
  ],
)
def test_two_plain_steps_equal_two_steps_of_the_loop(network, method):
  """Our steps of a convolutional network use all forms of nets/cpu.py, the plain steps none."""
  problem = problems.problem(problems.Row(network, 3, 20, method))
  arrays = jax.device_put(problem.feed.arrays)
  draw = jax.jit(lambda state: OnDevice(arrays, 20).draw(arrays, state))

  def step(state, arrays, teachers):
    batch = OnDevice(arrays, 20).draw(arrays, state)
    frozen = teachers and problems.frozen(problem, teachers)
    return train.train_step(state, batch, frozen, problem.method)

  shared = arrays, problem.teachers

  def lift(function):
    return members.lift(function, problem.loop.strategy)

  blank = Logs.blank(lift(step), problem.states, shared)
  first = start = members.take(problem.states, 0)
  plain = jax.jit(lambda *arguments: steps.plain_step(problem, *arguments))
  teachers = problem.teachers and [members.take(problem.teachers, i) for i in range(3)]
  losses = []
  for _ in range(2):
    first, loss = plain(first, draw(first), teachers or [])
    losses.append(loss)
  states = jax.tree.map(jnp.copy, problem.states)  # the program donates them
  states, logs = loop.program(step, lift)(states, blank, 2, *shared)
  np.testing.assert_allclose(sum(losses), logs.sums['loss'][0], rtol=1e-5)
  found = members.take(states, 0)
  assert tiny.largest_difference(found.params, first.params) < 1e-5
  pairs = zip(jax.tree.leaves(found.batch_stats), jax.tree.leaves(first.batch_stats), strict=True)
  for ours, theirs in pairs:
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
  assert tiny.largest_difference(found.params, start.params) > 1e-3


@pytest.mark.parametrize('method', METHODS)
def test_the_eager_step_equals_ours(method):
  torch = pytest.importorskip('torch')
  from benchmarks import eager

  problem, state, drawn, after, logs = both('wrn10-1', method)
  teachers = [members.take(problem.teachers, i) for i in range(3)]
  spec = problems.eager_spec(problem)
  step = eager.Step(spec, state.variables, teachers, 'cpu', exact=True)
  x, y = eager.images(drawn['x'], 'cpu'), torch.tensor(np.asarray(drawn['y'])).long()
  key_perturb = jax.random.split(jax.random.fold_in(state.key, state.step))[0]
  one, two = jax.random.split(key_perturb)
  member = int(jax.random.randint(one, (), 0, 3))
  direction = torch.tensor(np.asarray(jax.random.uniform(two, (8, 10), minval=-1, maxval=1)))
  drawn = {
    'latentbe_tdiv_sdiv': jax.random.choice(one, 3, (2,), replace=False).tolist(),
    'be_confods': (member, direction),
  }
  loss = step(x, y, drawn.get(method))
  np.testing.assert_allclose(loss.item(), logs['loss'], rtol=1e-4)
  ours = eager.tensors(after.params, 'cpu')
  pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(step.variables['params']), strict=True)
  assert max(float((a - b.detach()).abs().max()) for a, b in pairs) < 1e-4


@pytest.mark.slow
def test_a_row_of_steps_runs_the_baselines_in_a_separate_process():
  row = problems.Row('mlp', 2, 8, 'kd')
  found = steps.measure(row, seconds=0, turn=0)
  assert {'ours', 'plain'} <= set(found['contenders']) and found['rounds'] == 5
  plain = found['contenders']['plain']
  low, high = plain['times_ours_between']
  assert 0 < low <= plain['times_ours'] <= high
  assert 0 < found['contenders']['ours']['share_of_ceiling'] < 1 and found['flops'] > 0
  line = steps.table({'row': found}).splitlines()[-1]
  assert line.startswith('| mlp float32 | 2 | 8 | kd |') and line.endswith('| 5 |')


def test_a_failure_in_the_separate_process_is_reported():
  message = 'the function that makes the contenders died .*exit code 1'
  with pytest.raises(RuntimeError, match=message):
    with timing.apart(dict, 'not a pair'):
      pass


SERVES = """
import sys
print('{"versions": {"torch": "9"}, "contenders": ["torch"]}', flush=True)
for line in sys.stdin:
  assert line == 'torch 3\\n'
  print('done', flush=True)
"""


def test_another_python_serves_contenders(capfd):
  with timing.served([sys.executable, '-c', SERVES]) as (contenders, versions):
    assert versions == {'torch': '9'} and list(contenders) == ['torch']
    contenders['torch'].run(3)
    with pytest.raises(RuntimeError, match='died .exit code 1'):
      contenders['torch'].run(4)
  assert 'AssertionError' in capfd.readouterr().err


def test_a_problem_is_stored_for_pytorch(tmp_path):
  """Spec and arrays of a batch ensemble's problem, read as the other Python reads them."""
  problem = problems.problem(problems.Row('wrn10-1', 2, 8, 'be_confods'))
  problems.for_eager(problem, tmp_path)
  spec = json.loads((tmp_path / 'spec.json').read_text())
  assert spec['stages'][0] == 'stem' and spec['perturbation'] == 'conf_ods'
  assert 'head/r' in spec['factors'] and 'head/kernel' not in spec['factors']
  with np.load(tmp_path / 'arrays.npz') as arrays:
    assert arrays['x'].shape == (1024, 32, 32, 3)
    kernel = problem.teachers['params']['head']['kernel']
    np.testing.assert_array_equal(arrays['teachers/params/head/kernel'], kernel)
    assert arrays['networks/params/head/r'].shape[:2] == (1, 2)


def test_a_table_says_how_it_was_made(monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['steps', '--only=a b', '--json=/home/x', '--minutes=4'])
  saved = {
    'versions': {'jax': '0.12', 'processor': '2 x fast'},
    'rows': {'a': {'versions': {'torch': '2'}}},
  }
  text = timing.caption(saved)
  assert "'--only=a b' --json=FILE --minutes=4` on 2 x fast; jax 0.12, torch 2." in text


def test_a_row_of_members():
  found = members_benchmark.measure(problems.Row('mlp', 2, 8, 'teacher'), seconds=0, turn=0)
  assert set(found['contenders']) == {'one', 'loop', 'vmap', 'unroll'}
  (line,) = members_benchmark.table({'row': found}).splitlines()[2:]
  assert line.count('|') == len(members_benchmark.HEAD) + 1
  one = found['contenders']['loop']
  assert timing.between(one['per_member_over_one'], one['between']) in line


def test_contenders_take_turns_in_a_new_order_each_round():
  seen = []
  taken = timing.take_turns(
    {name: timing.Contender(lambda n, name=name: seen.append(name)) for name in 'ab'},
    seconds=0,
    turn=0,
    rounds=3,
  )
  assert ''.join(seen) == 'aabb' + 'ab' + 'ba' + 'ab'
  assert {name: len(values) for name, values in taken.items()} == {'a': 3, 'b': 3}
  assert timing.ratio({'a': [2.0, 8.0, 3.0], 'b': [1.0, 2.0, 3.0]}, 'a', 'b') == 2


def test_a_table_continues_and_refuses_another_machine(tmp_path, capsys):
  path = tmp_path / 'found.json'
  timing.Table(path).add('row', {'seconds': 1.0})
  again = timing.Table(path)
  assert again.rows['row']['seconds'] == 1
  path.write_text(path.read_text().replace('"processor": "', '"processor": "another '))
  with pytest.raises(SystemExit, match='another machine'):
    timing.Table(path)
  assert 'machine:' in capsys.readouterr().out


def test_markdown_shows_three_digits():
  table = timing.markdown(['a', 'b'], [['x', 0.012345], ['y', None], ['z', 12345.6]])
  assert table.splitlines()[2:] == ['| x | 0.0123 |', '| y | – |', '| z | 12,346 |']


def test_streaming_counts_images_and_measures_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(benchmark_of_input, 'DIFFERENT', 110)  # all other files are links
  for part, count in (('train', 131), ('test', benchmark_of_input.CLASSES)):
    benchmark_of_input.generate(tmp_path / part, count, 16)
  assert (tmp_path / 'train/010/0000010.jpg').samefile(tmp_path / 'train/020/0000120.jpg')
  dataset = data.load(f'folder:{tmp_path}', size=16, stream='on', valid=1)
  assert benchmark_of_input.decoding(dataset.train.x, 0.01) > 0
  found = benchmark_of_input.streaming(dataset, batch=16, workers=0)
  assert found['images'] == 128 and found['images/s'] > 0  # eight whole batches of 130 images
  assert len(found['gigabytes']) == 6 and min(found['gigabytes']) > 0
