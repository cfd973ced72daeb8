"""The logs of a stage's steps: sums of the terms, and the first step that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import mesh
from ensdistill.training.step import TrainState

SKIPS = 10  # most updates in a row that on_nan='skip' drops


class Logs(NamedTuple):
  """Sums of the logged terms since the last line, and the first step that is not finite.

  The compiled steps `add` to the logs of each network. The host reads stacked logs [S]. If updates
  are dropped, `bad` is the first step of a row of dropped updates.
  """

  sums: dict
  bad: jax.Array | np.ndarray  # the first step that is not finite, or -1
  bad_terms: dict  # the terms of that step
  dropped: Any = None  # updates dropped since the last line; None if updates are never dropped

  @classmethod
  def blank(cls, lifted: Callable, states: TrainState, shared: tuple, drops: bool = False) -> Logs:
    """Return stacked logs without a step, for lifted(states, *shared) -> (states, terms)."""
    _, terms = jax.eval_shape(lifted, states, *shared)
    size = len(states.step)
    sums, bad_terms = ({name: np.zeros(size, np.float32) for name in terms} for _ in range(2))
    dropped = np.zeros(size, np.int32) if drops else None
    return cls(sums, np.full(size, -1, np.int32), bad_terms, dropped)

  @property
  def drops(self) -> bool:
    """Whether updates that are not finite are dropped."""
    return self.dropped is not None

  def add(self, at, finite, terms: dict) -> Logs:
    """Return the logs after step `at` of one network. `finite`: whether its update is.

    If updates are dropped, a finite one ends the row. After more than SKIPS of them `bad` stays, so
    that the host sees it.
    """
    is_first = ~finite & (self.bad < 0)
    added, before, dropped = terms, self.bad, None
    if self.drops:
      stays = (self.bad >= 0) & (~finite | (at - self.bad > SKIPS))
      added = jax.tree.map(lambda term: jnp.where(finite, term, 0), terms)
      before, dropped = jnp.where(stays, self.bad, -1), self.dropped + ~finite
    return Logs(
      jax.tree.map(jnp.add, self.sums, added),
      jnp.where(is_first, at, before),
      jax.tree.map(lambda old, new: jnp.where(is_first, new, old), self.bad_terms, terms),
      dropped,
    )

  def emptied(self, blank: Logs) -> Logs:
    """Return empty logs that keep the count of consecutive dropped updates."""
    return blank._replace(bad=self.bad, bad_terms=self.bad_terms) if self.drops else blank

  def means(self, steps: int) -> dict[str, float]:
    """Return the means of the terms over `steps` steps, the dropped ones left out and counted."""
    sums, dropped = mesh.fetch((self.sums, self.dropped))
    if dropped is None or not dropped.any():
      means = {name: float(np.mean(v)) / steps for name, v in sums.items()}
      return means if dropped is None else means | {'dropped': 0}
    counted = steps - dropped
    some = counted > 0
    means = {
      name: float(np.mean(v[some] / counted[some])) if some.any() else float('nan')
      for name, v in sums.items()
    }
    return means | {'dropped': int(dropped.sum())}

  def failed(self, at: int) -> list[int]:
    """Return the networks whose losses have to stop the stage, after `at` steps."""
    bad = mesh.fetch(self.bad)
    allowed = SKIPS if self.drops else 0
    return np.flatnonzero((bad >= 0) & (at - bad > allowed)).tolist()

  def first_bad(self, network: int) -> tuple[int, dict[str, float]]:
    """Return the first step of a network that is not finite, and its terms."""
    bad, terms = mesh.fetch((self.bad, self.bad_terms))
    return int(bad[network]), {name: float(value[network]) for name, value in terms.items()}
