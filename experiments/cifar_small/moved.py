"""How far apart do perturbations move the members of an ensemble? Writes moved.json.

  python -m experiments.cifar_small.moved [--images=1000] [--job=JOB] [--out=DIR]

The ensemble is that of a run of the sweep in DIR (by default of the first one that is there).
For the step of 1/255 that the papers use and for longer ones, and for ODS at the temperatures 1 and
4, it measures the mean pairwise KL of the members on training and test images. The same command
continues.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ensdistill import families, members, metrics, names, perturb, run, runtime, teacher
from ensdistill.config import settings
from ensdistill.data import as_input
from ensdistill.logs import writers
from ensdistill.storage import safe

FOLDER = pathlib.Path(__file__).resolve().parent
ETAS = (1.0, 4.0, 16.0)
# (name, temperature of the perturbation)
MOVES = (('gaussian', None), ('ods', 4.0), ('conf_ods', 4.0), ('conf_ods', 1.0), ('tdiv', None))
TEMPERATURES = (1.0, 4.0)
BLOCK = 250


def configuration(path: pathlib.Path) -> ConfigDict:
  """Return the configuration that a run stored."""
  config = settings.default()
  config.update_from_flattened_dict(names.flatten(json.loads(path.read_text())))
  return config


def measure(folder: pathlib.Path, images: int, out: pathlib.Path) -> None:
  """Write the divergences of a run's ensemble, row by row; rows that are there stay."""
  config = configuration(folder / 'config.json')
  plan = run.checked(config, folder)
  found = teacher.obtain(plan, writers.Silent())
  assert isinstance(found, teacher.Teacher), 'these ensembles are trained here'
  frozen = found.freeze(jax.device_put(found.variables))
  parts = {'train': plan.dataset.train, 'test': plan.dataset.test}
  x = {name: as_input(np.asarray(split.x[:images])) for name, split in parts.items()}
  outputs = jax.jit(frozen.outputs)
  content: dict[str, Any] = {'job': folder.name, 'images': images, 'teacher': found.fingerprint}
  stored = json.loads(out.read_text()) if out.exists() else {}
  same = all(stored.get(key) == value for key, value in content.items())
  rows = stored['rows'] if same else [NOTHING | measured(outputs, x)]
  accuracy = {
    f'{name}_acc': member_accuracy(outputs, x[name], split.y[:images])
    for name, split in parts.items()
  }
  for name, temperature in MOVES:
    for eta in ETAS:
      row: dict[str, Any] = {'name': name, 'temperature': temperature, 'eta': eta}
      if any(row.items() <= known.items() for known in rows):
        continue
      own = {} if temperature is None else {'temperature': temperature}
      perturbation = perturb.make(name, eta=eta, **own)
      assert perturbation
      move = moving(perturbation, frozen, plan.dataset.space)
      moved = {part: move(inputs) for part, inputs in x.items()}
      row['step'] = float(np.sqrt(np.mean((moved['train'] - np.asarray(x['train'])) ** 2)) * 255)
      rows.append(row | measured(outputs, moved))
      print(json.dumps(rows[-1]), flush=True)
      whole = {**content, **accuracy, 'rows': rows, **runtime.software()}
      safe.write_atomic(out, json.dumps(whole, indent=1) + '\n')


NOTHING = {'name': 'none', 'temperature': None, 'eta': None, 'step': 0.0}


def measured(outputs, x: dict) -> dict[str, dict[str, float]]:
  """Return {part: divergences} of the members."""
  return {part: divergences(outputs, inputs) for part, inputs in x.items()}


def moving(perturbation: perturb.Perturbation, frozen: members.Members, space):
  """Return the function that moves images block by block, each with a key of its own."""

  @jax.jit
  def block(key, x):
    return perturbation.apply(key, x, frozen, frozen, families.categorical, space)

  def move(x):
    keys = jax.random.split(jax.random.key(0), -(-len(x) // BLOCK))
    parts = [block(key, x[i * BLOCK :][:BLOCK]) for i, key in enumerate(keys)]
    return np.concatenate([np.asarray(part) for part in parts])

  return move


def divergences(outputs, x) -> dict[str, float]:
  """Return {temperature: mean pairwise KL} of the members on these images."""
  logits = predicted(outputs, x)
  log_probs = {t: np.asarray(jax.nn.log_softmax(logits / t)) for t in TEMPERATURES}
  return {f'{t:.0f}': float(metrics.pairwise_kl(found)) for t, found in log_probs.items()}


def member_accuracy(outputs, x, labels) -> float:
  """Return the mean accuracy of the members."""
  return float((predicted(outputs, x).argmax(-1) == np.asarray(labels)[:, None]).mean())


def predicted(outputs, x) -> np.ndarray:
  """Return logits [N, M, K], block by block."""
  blocks = [x[i : i + BLOCK] for i in range(0, len(x), BLOCK)]
  return np.concatenate([np.asarray(outputs(block)) for block in blocks])


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--images', type=int, default=1000)
  parser.add_argument('--job')
  parser.add_argument('--out', type=pathlib.Path, default=FOLDER, metavar='DIR')
  given = parser.parse_args(arguments)
  runs = sorted((given.out / 'runs').glob(f'{given.job or "*__t0_s0"}/config.json'))
  if not runs:
    sys.exit('no run is there: start python -m experiments.cifar_small.run first')
  runtime.prepare()
  measure(runs[0].parent, given.images, given.out / 'moved.json')


if __name__ == '__main__':
  main()
