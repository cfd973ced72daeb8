"""Distil the trees of a scikit-learn forest on the wine data.

  python examples/forest.py
  ensdistill train hydra_digits --config.data.name=npz:wine.npz \
    --config.teacher.outputs=forest.npz --config.network.name=mlp \
    --config.evaluate.ood=outside --workdir=runs/forest
"""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier

from ensdistill import teachers


def main() -> None:
  x, y = load_wine(return_X_y=True)
  rows = np.random.default_rng(0).permutation(len(x))
  x, y, half = x[rows].astype(np.float32), y[rows], len(x) // 2
  np.savez('wine.npz', x_train=x[:half], y_train=y[:half], x_test=x[half:], y_test=y[half:])
  forest = RandomForestClassifier(10, min_samples_leaf=3, random_state=0).fit(x[:half], y[:half])
  train, test = (teachers.from_sklearn(forest, part) for part in (x[:half], x[half:]))
  teachers.save('forest.npz', train=train, test=test)


if __name__ == '__main__':
  main()
