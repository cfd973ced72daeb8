"""What the benchmarks compare does the same work: from equal states come equal states."""

import jax
import numpy as np
import pytest
import tiny

from benchmarks import input as benchmark_of_input
from benchmarks import problems, steps, timing
from ensdistill import data, members, train

METHODS = ('kd', *steps.PERTURBED)


def both(network, method, batch=8):
  """The problem, one batch, our step's state and loss, and what it starts from."""
  problem = problems.problem(problems.Row(network, 3, batch, method))
  state = members.take(problem.states, 0)
  draw = jax.jit(lambda arrays: train.draw(arrays, state.order, state.step, batch=batch))
  drawn = draw(jax.device_put(problem.arrays))
  step = lambda state, batch, teachers: train.train_step(
    state, batch, problems.frozen(problem, teachers), problem.method
  )
  return problem, state, drawn, *jax.jit(step)(state, drawn, problem.teachers)


@pytest.mark.parametrize('method', METHODS)
def test_the_plain_step_is_ours(method):
  problem, state, drawn, after, logs = both('mlp', method)
  teachers = [members.take(problem.teachers, i) for i in range(3)]
  plain = jax.jit(lambda *arguments: steps.plain_step(problem, *arguments))
  found, loss = plain(state, drawn, teachers)
  np.testing.assert_allclose(loss, logs['loss'], rtol=1e-5)
  assert tiny.largest_difference(found.params, after.params) < 1e-6
  assert tiny.largest_difference(found.params, state.params) > 1e-4


@pytest.mark.parametrize('method', METHODS)
def test_the_eager_step_is_ours(method):
  torch = pytest.importorskip('torch')
  from benchmarks import eager

  problem, state, drawn, after, logs = both('wrn10-1', method)
  teachers = [members.take(problem.teachers, i) for i in range(3)]
  step = eager.Step(problem, state, teachers, 'cpu', exact=True)
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
  assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-4


def test_turns_are_taken_in_another_order_each_round():
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


def test_a_table_goes_on_and_refuses_another_machines(tmp_path, capsys):
  path = tmp_path / 'found.json'
  timing.Table(path).add('row', {'seconds': 1.0})
  again = timing.Table(path)
  assert again.rows['row']['seconds'] == 1
  assert again.once('ceiling', lambda: 3.0) == timing.Table(path).once('ceiling', None) == 3
  path.write_text(path.read_text().replace('"processor": "', '"processor": "another '))
  with pytest.raises(SystemExit, match='another machine'):
    timing.Table(path)
  assert 'machine:' in capsys.readouterr().out


def test_markdown_shows_three_digits():
  table = timing.markdown(['a', 'b'], [['x', 0.012345], ['y', None], ['z', 12345.6]])
  assert table.splitlines()[2:] == ['| x | 0.0123 |', '| y | – |', '| z | 12,346 |']


def test_what_streams_is_counted_and_its_memory_seen(tmp_path, monkeypatch):
  monkeypatch.setattr(benchmark_of_input, 'DIFFERENT', 110)  # the others are links to them
  for part, count in (('train', 131), ('test', benchmark_of_input.CLASSES)):
    benchmark_of_input.generate(tmp_path / part, count, 16)
  assert (tmp_path / 'train/010/0000010.jpg').samefile(tmp_path / 'train/020/0000120.jpg')
  dataset = data.load(f'folder:{tmp_path}', size=16, stream='on', valid=1)
  assert benchmark_of_input.decoding(dataset.train.x, 0.01) > 0
  found = benchmark_of_input.streaming(dataset, batch=16, workers=0)
  assert found['images'] == 128 and found['images/s'] > 0  # the eight batches of 130
  assert len(found['gigabytes']) == 6 and min(found['gigabytes']) > 0
