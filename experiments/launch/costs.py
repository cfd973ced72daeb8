"""Print what runs on TPU slices cost, on paper: python experiments/launch/costs.py.

Everything is reckoned from operations and bytes; nothing here was measured on a TPU. Figures in
capitals, and the share of the peak that is used, are assumptions: change them to those of your
machines. docs/clusters.md has the arithmetic.
"""

import math
from typing import NamedTuple

PEAK = 197e12  # operations a second of a v5e chip, bfloat16 (Google's data sheet)
LINK = 100e9  # bytes a second that a chip sends in an all-reduce (half of its 1,600 Gbit/s)
WAIT = 0.2e-3  # seconds that a step with communication waits for it to begin
PRICE = 1.2  # dollars a chip-hour, a list price


class Work(NamedTuple):
  """A recipe: one network, its training set, and the batch size by the number of chips."""

  name: str
  flops: float  # of a forward pass of one example: evaluation.cost.convolutions
  parameters: float
  examples: int
  epochs: int
  used: float  # share of the peak that training reaches
  batch: dict[int, int]


WORK = (
  Work('CIFAR-100, WRN-28-4', 1.69e9, 5.87e6, 45_000, 200, 0.1, {8: 128, 64: 128}),
  Work('ImageNet, ResNet-50', 8.17e9, 25.6e6, 1_281_167, 90, 0.3, {8: 256, 64: 1024}),
)


class Cost(NamedTuple):
  """Seconds of a step that compute and that communicate, and the number of steps."""

  compute: float
  communicate: float
  steps: int

  @property
  def hours(self) -> float:
    return self.steps * (self.compute + self.communicate) / 3600


def stage(work: Work, chips: int, passes: float, networks: int, batch: int) -> Cost:
  """Return the cost of training `networks` networks together.

  passes: forward passes of one example that a step of one of them costs; the gradient counts two.
  """
  member = math.gcd(chips, networks)
  data = chips // member
  here = networks / member  # networks on a chip
  compute = here * passes * work.flops * batch / data / (PEAK * work.used)
  size = 4 * work.parameters * here
  communicate = 2 * (data - 1) / data * size / LINK + WAIT if data > 1 else 0.0
  return Cost(compute, communicate, work.epochs * (work.examples // batch))


def rows(chips: int, members: int) -> list[tuple[str, str, Cost]]:
  """Return (work, stage, cost) of a teacher and of two students on a slice."""
  found = []
  for work in WORK:
    batch = work.batch[chips]
    for name, passes, networks in (
      ('teacher', 3, members),
      ('KD student', members + 3, 1),
      ('LatentBE student', 4 * members + 6, 1),
    ):
      found.append((work.name, name, stage(work, chips, passes, networks, batch)))
  return found


def main() -> None:
  print('| recipe | M | chips | stage | ms computing | ms communicating | hours | $ |')
  print('|---|---|---|---|---|---|---|---|')
  for chips in (8, 64):
    for members in (4, 16):
      for work, name, cost in rows(chips, members):
        print(
          f'| {work} | {members} | {chips} | {name} | {1e3 * cost.compute:.2f} '
          f'| {1e3 * cost.communicate:.2f} | {cost.hours:.2f} '
          f'| {cost.hours * chips * PRICE:,.0f} |'
        )
  print()
  print('| KD student, CIFAR-100, M = 4, on 64 chips | seconds a step | runs an hour |')
  print('|---|---|---|')
  for side_by_side in (1, 8, 64):
    cost = stage(WORK[0], 64 // side_by_side, 7, 1, 128)
    seconds = cost.compute + cost.communicate
    print(f'| {side_by_side} side by side | {seconds:.5f} | {side_by_side / cost.hours:.1f} |')


if __name__ == '__main__':
  main()
