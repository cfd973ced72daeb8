"""What a network costs: parameters, floating-point operations, milliseconds an example."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Program(NamedTuple):
  """A compiled forward pass and its arguments."""

  call: Callable
  arguments: tuple
  batch: int
  flops: float | None  # an example


def parameters(variables, divide: int = 1) -> int:
  """Trainable parameters; `divide` for stacked networks of which one is meant."""
  return sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) // divide


def compiled(function: Callable, variables: Any, shape, dtype, batch: int) -> Program:
  """function(variables, x) for a batch of inputs, compiled."""
  x = jnp.zeros((batch, *shape), dtype)
  program = jax.jit(function).lower(variables, x).compile()
  try:
    flops = program.cost_analysis()['flops'] / batch
  except (KeyError, TypeError, NotImplementedError):  # not every back end tells
    flops = None
  return Program(program, (variables, x), batch, flops)


def milliseconds(programs: dict[str, Program], repeats: int = 15) -> dict[str, float]:
  """Median milliseconds an example; the programs take turns, so that a slow minute hits all."""
  taken = {name: [] for name in programs}
  for program in programs.values():
    jax.block_until_ready(program.call(*program.arguments))
  for _ in range(repeats):
    for name, program in programs.items():
      began = time.perf_counter()
      jax.block_until_ready(program.call(*program.arguments))
      taken[name].append(time.perf_counter() - began)
  return {n: 1e3 * statistics.median(t) / programs[n].batch for n, t in taken.items()}


def of_models(models: dict[str, tuple[Callable, Any, int]], shape, dtype) -> dict[str, dict]:
  """Costs of {name: (forward(variables, x), variables, parameters)} at batch 1 and 128."""
  programs = {
    (name, batch): compiled(forward, variables, shape, np.dtype(dtype), batch)
    for name, (forward, variables, _) in models.items()
    for batch in (1, 128)
  }
  took = milliseconds(programs)
  return {
    name: {
      'params': count,
      'flops': programs[name, 1].flops,
      'ms_per_example': took[name, 128],
      'ms_per_example/batch_1': took[name, 1],
    }
    for name, (_, _, count) in models.items()
  }
