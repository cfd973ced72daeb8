"""Measure the latency of member, ensemble and student in JAX, StableHLO and ONNX:

  python -m benchmarks.export [--config=kd_digits:small] [--workdir=DIR] [--json=FILE] [--quick]

The run is trained first, unless it is finished. Each network is written as a StableHLO and as an
ONNX file, which give probabilities and uncertainties. JAX is the same function under jit. A call
takes a NumPy array and returns NumPy arrays. The goal is 0.1 ms for the student as ONNX at batch 1.
"""

import argparse
import dataclasses
import pathlib
import statistics
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from ensdistill import data, export, nets, run, teacher
from ensdistill.config import recipes
from ensdistill.exporting import files, inference, parity
from ensdistill.exporting.inference import Inference
from ensdistill.logs import writers
from ensdistill.members import take

BATCHES = (1, 128)
RUNTIMES = ('JAX', 'StableHLO', 'ONNX')


def networks(config: str, workdir: str | None) -> dict[str, Inference]:
  """Return the inference functions of the first member, the ensemble and the student of a run."""
  name, _, variant = config.partition(':')
  method, _, data = name.rpartition('_')
  plan = run.prepare(recipes.make(method, data, variant), workdir)
  run.run(plan)
  student = inference.of(export.load(plan.folder / 'student'))
  ensemble = teacher.obtain(plan, writers.Silent())
  return {
    'member': _members(plan, ensemble, student, 1),
    f'ensemble of {ensemble.size}': _members(plan, ensemble, student, ensemble.size),
    'student': student,
  }


def _members(plan, ensemble, student: Inference, size: int) -> Inference:
  """Return the mixture of the first members, computed one after the other in one program."""
  module = nets.with_form(plan.teacher.student.module, 'plain')
  member = dataclasses.replace(plan.teacher.student, module=module)
  units = plan.dataset.target_mean, plan.dataset.target_std

  def call(variables, x):
    x = data.as_input(x)
    with jax.default_matmul_precision('highest'):
      outputs = [member.freeze(take(variables, i)).outputs(x) for i in range(size)]
      p = plan.teacher.objective.predictive(plan.teacher.family, jnp.concatenate(outputs, 1))
      return inference.named(plan.teacher.family, p, *map(np.float32, units))

  variables = jax.tree.map(lambda leaf: np.asarray(leaf[:size]), ensemble.variables)
  return student._replace(call=call, variables=variables)


def programs(name: str, function: Inference, folder: pathlib.Path) -> dict[str, Callable]:
  """Return the network by runtime, after a comparison of the files with JAX."""
  compiled = jax.jit(function.closed())

  def in_jax(x):
    return {name: np.asarray(values) for name, values in compiled(x).items()}

  def describe(batch):
    about = {'shape': list(function.shape), 'dtype': str(function.dtype), 'range': [0, 1]}
    return {'name': name, 'input': about, 'batch': batch, 'outputs': {}, 'classes': None}

  found = {'JAX': in_jax}
  random = np.random.default_rng(0).random((5, *function.shape)).astype(function.dtype)
  for runtime, kind in (('StableHLO', 'stablehlo'), ('ONNX', 'onnx')):
    form, path = files.FORMATS[kind], folder / f'{name}.{kind}'
    form.write(function, describe, path, None)
    found[runtime] = form.load(path)
    gap = parity.differences(in_jax(random), found[runtime](random), has_classes=True)
    assert max(gap.values()) < parity.LIMIT, (name, runtime, gap)
  return found


def contender(call: Callable, x) -> timing.Contender:
  """Return a program on one batch."""

  def calls(count: int) -> None:
    for _ in range(count):
      call(x)

  return timing.Contender(calls)


def measure(every: dict[str, Inference], seconds: float, turn: float) -> dict[str, list[float]]:
  """Return the seconds of a call: {'network, runtime, batch': one for each round}."""
  with tempfile.TemporaryDirectory() as temporary:
    contenders = {}
    for name, function in every.items():
      for runtime, call in programs(name, function, pathlib.Path(temporary)).items():
        for batch in BATCHES:
          x = np.random.default_rng(1).random((batch, *function.shape)).astype(function.dtype)
          contenders[f'{name}, {runtime}, {batch}'] = contender(call, x)
    return timing.take_turns(contenders, seconds=seconds, turn=turn)


def table(taken: dict[str, list[float]]) -> str:
  """Return milliseconds of a call, the medians over rounds, as Markdown."""
  names = dict.fromkeys(key.split(', ')[0] for key in taken)
  rows = [
    [name]
    + [
      1e3 * statistics.median(taken[f'{name}, {runtime}, {batch}'])
      for batch in BATCHES
      for runtime in RUNTIMES
    ]
    for name in names
  ]
  head = [f'{runtime}, batch {batch}' for batch in BATCHES for runtime in RUNTIMES]
  return timing.markdown(['ms', *head], rows)


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', default='kd_digits:small', help='a recipe')
  parser.add_argument('--workdir', help="the run's folder")
  parser.add_argument('--json', help='file for the measurements')
  parser.add_argument('--quick', action='store_true', help='few calls, to test the benchmark')
  options = parser.parse_args()
  every = networks(options.config, options.workdir)
  saved = timing.Table(options.json)
  seconds, turn = (0, 0.001) if options.quick else (30, 0.1)
  taken = measure(every, seconds, turn)
  for name, values in taken.items():
    saved.add(name, {'seconds': values})
  print(f'\n{timing.caption(saved.saved)}\n\n{table(taken)}')


if __name__ == '__main__':
  main()
