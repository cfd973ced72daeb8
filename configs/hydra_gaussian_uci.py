"""Hydra (Tran et al., 2020) on noisy inputs, on a UCI set.

python -m ensdistill.main --config=configs/hydra_gaussian_uci.py --config.data.dir=FOLDER

FOLDER holds boston.npz, concrete.npz, ... (x, y, test_mask: see ensdistill/data/npz.py), of which
--config.data.name chooses one, --config.data.split one of its splits. All splits of six sets in one
table: experiments/hydra/uci.py.

Two CPU cores are enough. Expected numbers: the table in experiments/hydra/README.md has the same
without noise: Hydra.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra_gaussian', 'uci', variant)
