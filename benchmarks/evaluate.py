"""Measure speed and memory of an evaluation: python -m benchmarks.evaluate [--size=1000000]

1. All metrics of 10,000 x M=8 x K=100 predictions with one out-of-distribution set; goal: 5 s.
2. All metrics of `--size` examples with M=8 members and 1,000 classes, streamed from a small
   network; goal: less than 4 GB for a million examples.
"""

import argparse
import json
import resource
import time

import jax
import numpy as np

from ensdistill import metrics, predictive, runtime
from ensdistill.evaluation import inference
from ensdistill.members import Members


def freeze(variables):
  """Return a cheap frozen network with partly equal members: features -> outputs [B, M, K]."""

  def outputs(features_BF):
    return jax.nn.log_softmax(jax.numpy.einsum('bf,mfk->bmk', features_BF, variables))

  return Members(len(variables), outputs)


def draw(size, members, classes, seed, features=16):
  """Return inputs, labels (often the first member's prediction) and the members' weights."""
  random = np.random.default_rng(seed)
  shared = random.standard_normal((1, features, classes), np.float32)
  own = random.standard_normal((members, features, classes), np.float32)
  variables = shared + 0.5 * own
  x = random.standard_normal((size, features), np.float32)
  labels = np.concatenate([np.argmax(block @ variables[0], -1) for block in blocks(x)])
  wrong = random.random(size) < 0.2
  return x, np.where(wrong, random.integers(0, classes, size), labels), variables


def blocks(x, size=1000):
  return [x[i : i + size] for i in range(0, len(x), size)]


def program(batch):
  return inference.Predictor(predictive.Mixture, freeze, batch=batch)


def everything(size=10_000, members=8, classes=100) -> float:
  """Return the seconds for all metrics of one model, given its predictions."""
  x, labels, variables = draw(size, members, classes, 0)
  run = program(1000)
  test, foreign = run(variables, x), run(variables, 3 * x[::-1])
  valid, ensemble = run(variables, x[: size // 2] + 0.1), run(variables[:4], x)
  began = time.perf_counter()
  metrics.summary.classification(
    test,
    labels,
    valid_predictive=valid,
    valid_labels=labels[: size // 2],
    ensemble=ensemble,
    ensemble_cnll=[1.0, 0.8, 0.7],
  )
  metrics.summary.ood(test, foreign, ensemble_out=ensemble)
  return time.perf_counter() - began


def stream(size, members=8, classes=1000) -> dict:
  """Compute all metrics of a labelled set of any size, block by block."""
  x, labels, variables = draw(size, members, classes, 1)
  began, at, parts = time.perf_counter(), 0, []
  for block in program(250).blocks(variables, x):
    count = len(block.log_probs_BMK)
    parts.append(metrics.summary.examples(block, labels[at : at + count]))
    at += count
  found = metrics.summary.classification_metrics(metrics.summary.join(parts))
  assert at == size
  return {'seconds': time.perf_counter() - began, 'acc': found['acc'], 'ece': found['ece']}


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--size', type=int, default=1_000_000, help='number of examples to stream')
  size = parser.parse_args().size
  runtime.prepare()
  print(json.dumps(runtime.versions()))
  print(f'10,000 x M=8 x K=100, all metrics, one foreign set: {everything():.2f} s')
  found = stream(size)
  gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(
    f'{size:,} x M=8 x K=1000, streamed: {found["seconds"]:.1f} s '
    f'({size / found["seconds"]:,.0f} examples/s), at most {gigabytes:.2f} GB of memory; '
    f'acc {found["acc"]:.4f}, ece {found["ece"]:.4f}'
  )


if __name__ == '__main__':
  main()
