"""A BatchEnsemble distilled member by member on a UCI set.

python -m ensdistill.main --config=configs/be_kd_uci.py --config.data.dir=FOLDER
python -m ensdistill.main --config=configs/be_kd_uci.py:paper --config.data.dir=FOLDER

FOLDER holds boston.npz, concrete.npz, ... (x, y, test_mask: see ensdistill/data/npz.py), of which
--config.data.name chooses one, --config.data.split one of its splits. All splits of six sets in one
table: experiments/hydra/uci.py. The variant `paper` is the published protocol: 50 teachers of one
variance each, by least squares, and a student of 50 units.

Two CPU cores are enough. Expected numbers: the table in experiments/hydra/README.md, BatchEnsemble.
"""

from configs import common


def get_config(variant=''):
  return common.make('be_kd', 'uci', variant)
