"""Measure training steps: ours, plain JAX as in the papers' public code, and PyTorch if installed.

  python -m benchmarks.steps [--quick] [--json=FILE] [--minutes=25] [--only=TEXT]
                             [--torch-python=PYTHON]

`ours` is the loop's own program, with oneDNN where `onednn=auto` takes it for the recipe's length.
`plain` is the same mathematics in JAX as it is usually written:

- teachers are a list, applied one after another, and several teachers train one after another;
- all M teachers and all M student members are inside the perturbation's gradient;
- convolutions and batch norm are XLA's, compiled with JAX's default options;
- images are augmented on the host, and the loss is fetched after every step.

`torch` is eager PyTorch (see eager.py), with its batches on the device; --torch-python names the
Python that has it, this one by default. All take turns; `plain` and `torch` run in processes of
their own with default memory and thread settings. Ratios are medians over
rounds, with the extremes in brackets. The ceiling is a product of large matrices. MB is the memory
that XLA plans for arguments, results and temporaries. With --json, a second call continues where
the first stopped.
"""

import contextlib
import importlib.util
import pathlib
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import problems, timing
from benchmarks.problems import Row
from ensdistill import members, nets
from ensdistill.training.step import TrainState

PERTURBED = ('latentbe_tdiv_sdiv', 'be_confods')
ROWS = {
  'quick': [Row('wrn10-1', 2, 8, method) for method in ('teacher', 'kd', *PERTURBED)],
  'cpu': [
    Row('resnet20', 1, 128, 'teacher'),
    *[Row('wrn28-1', 4, 32, method) for method in PERTURBED],
    *[Row('wrn28-1', size, 32, 'teacher') for size in (1, 4)],
    *[Row('wrn28-1', 4, 32, method) for method in ('kd', 'latentbe')],
    Row('resnet20', 4, 32, 'be_confods'),
    *[Row('wrn28-4', 4, 8, method) for method in PERTURBED],
    Row('mlp', 4, 128, 'latentbe_tdiv_sdiv'),
  ],
  'gpu': [
    *[Row('wrn28-4', 4, 128, method, 'bfloat16') for method in PERTURBED],
    *[Row('resnet20', 1, 128, 'teacher', dtype) for dtype in ('bfloat16', 'float32')],
    *[Row('wrn28-1', 4, 128, method, 'bfloat16') for method in PERTURBED],
    *[
      Row(network, size, 128, 'teacher', 'bfloat16')
      for network in ('wrn28-1', 'wrn28-4')
      for size in (1, 4)
    ],
    *[Row('wrn28-4', 4, 128, method, 'bfloat16') for method in ('kd', 'latentbe')],
    *[Row('wrn28-4', 4, 128, method, 'float32') for method in PERTURBED],
  ],
}


# ---- the plain baseline


def plain_step(problem, state: TrainState, batch, teachers: list):
  """Take a step as it is usually written; the state and loss equal ours up to rounding."""
  method, x = problem.method, batch['x']
  student = nets.with_form(method.student.module, 'plain')
  key = jax.random.split(jax.random.fold_in(state.key, state.step))[0]
  if method.perturbation:
    x = jax.lax.stop_gradient(_perturbed(problem, key, state, x, teachers))
  targets = _teacher_outputs(problem, teachers, x) if teachers else None

  def loss_of(params):
    def forward(x, batch_stats):
      variables = {'params': params, 'batch_stats': batch_stats}
      outputs, new = student.apply(variables, x, True, mutable=['batch_stats'])
      return outputs, new.get('batch_stats', {})

    outputs, batch_stats = forward(x, state.batch_stats)
    loss = 0.0
    if teachers:
      loss_B, _ = method.objective.loss(method.family, outputs, targets)
      loss = (1 - method.label_weight) * loss_B.mean()
    if method.label_weight:
      if method.perturbation:
        outputs, batch_stats = forward(batch['x'], batch_stats)
      loss += method.label_weight * method.family.label_loss(outputs, batch['y']).mean()
    return loss, batch_stats

  (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
  updates, opt_state = method.optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return TrainState(state.step + 1, params, batch_stats, opt_state, state.key, state.order), loss


def _teacher_outputs(problem, teachers, x):
  module = nets.with_form(problem.member.student.module, 'plain')
  return jnp.concatenate([module.apply(variables, x) for variables in teachers], 1)


def _perturbed(problem, key, state, x, teachers):
  """Apply TDiv-SDiv or ConfODS with every member in the gradient."""
  method, size = problem.method, len(teachers)
  student = nets.with_form(method.student.module, 'plain')
  if method.perturbation.name == 'tdiv_sdiv':
    i, j = jax.random.choice(jax.random.split(key)[0], size, (2,), replace=False)

    def gain(x):
      p_BMK = jax.nn.log_softmax(_teacher_outputs(problem, teachers, x))
      q_BMK = jax.nn.log_softmax(student.apply(state.variables, x))

      def cross_entropy(log_BMK):
        return -(jax.lax.stop_gradient(jnp.exp(log_BMK[:, j])) * log_BMK[:, i]).sum()

      return cross_entropy(p_BMK) - cross_entropy(q_BMK)

    gradient, confidence = jax.grad(gain)(x), 1.0
  else:
    key_member, key_direction = jax.random.split(key)
    one = jax.random.randint(key_member, (), 0, size)
    temperature = problem.config.perturb.temperature

    def gain(x):
      y_BK = jax.nn.softmax(_teacher_outputs(problem, teachers, x) / temperature)[:, one]
      return (jax.random.uniform(key_direction, y_BK.shape, minval=-1, maxval=1) * y_BK).sum(), y_BK

    gradient, y_BK = jax.grad(gain, has_aux=True)(x)
    confidence = y_BK.max(1).reshape(-1, *[1] * (x.ndim - 1))
  norm = jnp.sqrt((gradient**2).sum(tuple(range(1, x.ndim)), keepdims=True))
  length = x[0].size ** 0.5 / 255
  return jnp.clip(x + length * confidence * gradient / jnp.maximum(norm, 1e-12), 0, 1)


def host_batches(problem):
  """Yield batches that NumPy has padded by four pixels, cropped and mirrored, as float32."""
  x, y = (np.asarray(problem.feed.arrays[name]) for name in ('x', 'y'))
  random, size = np.random.default_rng(0), problem.row.batch
  while True:
    index = random.integers(0, len(x), size)
    images = x[index]
    if images.ndim == 4:
      padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
      height, width = images.shape[1:3]
      corners, mirrored = random.integers(0, 9, (size, 2)), random.random(size) < 0.5
      images = np.stack([p[i : i + height, j : j + width] for p, (i, j) in zip(padded, corners)])
      images[mirrored] = images[mirrored, :, ::-1]
      images = images.astype(np.float32) / 255
    yield {'x': images, 'y': y[index]}


def plain(problem) -> timing.Contender:
  """Return the jitted step of one network; networks take turns and the host waits for each loss."""

  def unstacked(tree):
    return [members.take(tree, i) for i in range(len(jax.tree.leaves(tree)[0]))]

  states = unstacked(problem.states)
  teachers = [] if problem.teachers is None else unstacked(problem.teachers)
  batches = host_batches(problem)
  program, seconds, gigabytes = timing.compiled(
    jax.jit(lambda *arguments: plain_step(problem, *arguments)), states[0], next(batches), teachers
  )

  def run(n):
    for _ in range(n):
      for i, state in enumerate(states):
        states[i], loss = program(state, next(batches), teachers)
        float(loss)

  return timing.Contender(run, seconds, gigabytes)


# ---- the table


def others(row: Row) -> dict[str, timing.Contender]:
  """Return the plain baseline."""
  return {'plain': plain(problems.problem(row))}


@contextlib.contextmanager
def eager(problem, python: str | None):
  """Yield the contenders of PyTorch in a process of that Python, and its versions."""
  python = python or (sys.executable if importlib.util.find_spec('torch') else None)
  if not python or not problem.member.student.module.backbone.convolutional:
    yield {}, {}
    return
  with tempfile.TemporaryDirectory() as folder:
    problems.for_eager(problem, pathlib.Path(folder))
    with timing.served([python, '-m', 'benchmarks.eager', folder]) as (contenders, versions):
      yield contenders, versions


def measure(row: Row, seconds: float, turn: float, torch_python: str | None = None) -> dict:
  """Measure one row of the table."""
  problem = problems.problem(row)
  flops = problems.useful_flops(problem)
  with timing.apart(others, row) as theirs, eager(problem, torch_python) as (torch, versions):
    who = {'ours': problems.ours(problem)} | theirs | torch
    matmul, flops_of_matmul = timing.matmul(row.dtype)
    turns = who | {'input': problems.inputs(problem), 'matmul': matmul}
    taken = timing.take_turns(turns, seconds=seconds, turn=turn)
  found = {}
  for name, contender in who.items():
    median = float(np.median(taken[name]))
    found[name] = {
      'seconds': median,
      'times_ours': timing.ratio(taken, name, 'ours'),
      'times_ours_between': timing.extremes(taken, name, 'ours'),
      'compile_seconds': contender.compile_seconds,
      'gigabytes': contender.gigabytes,
      'examples_per_second': row.batch / median,
      'flops_per_second': flops / median,
      'share_of_ceiling': timing.ratio(taken, 'matmul', name) * flops / flops_of_matmul,
    }
  return {
    'row': row._asdict(),
    'versions': versions,
    'onednn': problem.loop.onednn,
    'flops': flops,
    'ceiling_flops_per_second': flops_of_matmul / float(np.median(taken['matmul'])),
    'rounds': len(taken['ours']),
    'input_share': timing.ratio(taken, 'input', 'ours'),
    'contenders': found,
  }


HEAD = [
  'network', 'M', 'batch', 'method', 'oneDNN', 'ms a step', 'examples/s', 'GFLOP/s', '% of ceiling',
  '% input', 'compile s', 'MB', 'plain, × ours', 'compile s', 'MB', 'PyTorch, × ours',
  'channels-last, × ours', 'rounds',
]  # fmt: skip


def table(rows: dict[str, dict]) -> str:
  """Return the rows as Markdown."""
  lines = []
  for found in rows.values():
    row, who = Row(**found['row']), found['contenders']
    one, other = who['ours'], who['plain']

    def megabytes(c):
      return c['gigabytes'] and c['gigabytes'] * 1024

    def times(c):
      return c and timing.between(c['times_ours'], c['times_ours_between'])

    lines.append([
      f'{row.network} {row.dtype}', str(row.members), str(row.batch), row.method,
      'yes' if found['onednn'] else 'no',
      1e3 * one['seconds'], one['examples_per_second'], one['flops_per_second'] / 1e9,
      100 * one['share_of_ceiling'], 100 * found['input_share'], one['compile_seconds'],
      megabytes(one),
      times(other), other['compile_seconds'], megabytes(other),
      *[times(who.get(name)) for name in ('torch', 'torch_last')], str(found['rounds']),
    ])  # fmt: skip
  return timing.markdown(HEAD, lines)


if __name__ == '__main__':
  python_help = 'Python that has torch and numpy; default: this one, if it has torch'
  timing.command(__doc__, ROWS, measure, table, {'torch-python': python_help})
