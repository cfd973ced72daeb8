"""The true posterior of the spirals, and how far the models of a run are from it."""

import json
import pathlib

import numpy as np

from ensdistill import data
from ensdistill.storage import safe

LONGEST = 6 * np.pi  # n at the outer end of an arm
NOISE = 0.25  # the paper has 0.1 and 0.25; with 0.1 the arms hardly overlap
PER_CLASS = 1000


def log_posterior(x_ND: np.ndarray, noise: float = NOISE, points: int = 8000) -> np.ndarray:
  """Return log p(k | x) of the generating process for three equally frequent arms: [N, 3].

  A point of arm k is N(c_k(n), (noise n^1.5)^2 I) with c_k(n) = n^2 (-cos(n + phi_k),
  sin(n + phi_k)), phi_k = 2 pi k / 3, n = 6 pi sqrt(u), u ~ U(0, 1). So n has the density
  2 n / (6 pi)^2, and p(x | k) is an integral over n, by the midpoint rule.
  """
  n_P = (np.arange(points) + 0.5) * LONGEST / points
  std_P = noise * n_P**1.5
  angle_PK = n_P[:, None] + 2 * np.pi * np.arange(3) / 3
  centre_PKD = np.stack([-np.cos(angle_PK), np.sin(angle_PK)], -1) * n_P[:, None, None] ** 2
  log_weight_P = np.log(n_P) - 2 * np.log(std_P)
  found = []
  for block_BD in np.array_split(np.asarray(x_ND, np.float64), max(1, len(x_ND) // 100)):
    log_density_BK = np.empty((len(block_BD), 3))
    for k in range(3):
      square_BP = ((block_BD[:, None] - centre_PKD[None, :, k]) ** 2).sum(-1)
      terms_BP = log_weight_P - square_BP / (2 * std_P**2)
      log_density_BK[:, k] = np.logaddexp.reduce(terms_BP, axis=1)
    total_B1 = np.logaddexp.reduce(log_density_BK, axis=1, keepdims=True)
    found.append(log_density_BK - total_B1)
  return np.concatenate(found)


def reference(log_p_NK: np.ndarray, labels_N: np.ndarray) -> dict[str, float]:
  """Return accuracy and NLL of the true posterior itself: the best that a model can reach."""
  picked = log_p_NK[np.arange(len(labels_N)), labels_N]
  correct = log_p_NK.argmax(1) == labels_N
  return {'acc': float(correct.mean()), 'nll': float(-picked.mean())}


def compare(folder: pathlib.Path, job: str) -> None:
  """Write posterior/JOB.json of a finished run whose student is there; it stays as it is."""
  from ensdistill.commands import evaluate

  out, run = folder / 'posterior' / f'{job}.json', folder / 'runs' / job
  if out.exists() or not (run / 'student').is_dir():
    return
  config = json.loads((run / 'config.json').read_text())
  test = data.load('spirals', seed=config['seed'], noise=NOISE, per_class=PER_CLASS).test
  log_p = log_posterior(test.x)
  labels = folder / 'data' / f'posterior_seed_{config["seed"]}.npy'
  labels.parent.mkdir(exist_ok=True)
  np.save(labels, np.exp(log_p))
  full = folder / 'data' / f'{job}.json'
  flags = [f'--student={run}', f'--label-distributions={labels}', '--ood=none']
  evaluate.main([*flags, f'--teacher={folder / "teachers"}', f'--out={full}'])
  found = json.loads(full.read_text())['label_distributions']
  content = {'posterior': reference(log_p, test.y), **found}
  out.parent.mkdir(exist_ok=True)
  safe.write_atomic(out, json.dumps(content, indent=1) + '\n')
