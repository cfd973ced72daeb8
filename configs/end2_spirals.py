"""EnD² (Malinin et al., 2020) on three spirals.

A Prior Network whose Dirichlet matches the members' predictions.

python -m ensdistill.main --config=configs/end2_spirals.py
python -m ensdistill.main --config=configs/end2_spirals.py:small

Two CPU cores: the full recipe, with a teacher of 100 members, has not been timed yet; `:small` is
the quick one, too short for members to learn the spirals (ACC 44 %). Expected numbers: none of a
paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2', 'spirals', variant)
