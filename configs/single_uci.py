"""A single Gaussian regressor on labels alone on a UCI set: the control.

python -m ensdistill.main --config=configs/single_uci.py --config.data.dir=FOLDER

FOLDER holds boston.npz, concrete.npz, ... (x, y, test_mask: see ensdistill/data/npz.py), of which
--config.data.name chooses one, --config.data.split one of its splits. All splits of six sets in one
table: experiments/hydra/uci.py.

Two CPU cores are enough. Expected numbers: the table in experiments/hydra/README.md, "one member".
"""

from configs import common


def get_config(variant=''):
  return common.make('single', 'uci', variant)
