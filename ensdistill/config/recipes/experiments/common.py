"""The variant `common`: every method for classification under one protocol.

The ensemble of four and its students have one network, schedule, data split and selection: those of
LatentBE's paper on CIFAR-100, but for initial weights. So the ensemble is trained once. A method
keeps what belongs to it: loss, temperature, inputs, the clipping of its gradient, and the rate and
decay of rank-one factors. An epoch counts auxiliary inputs, too.
"""

from ensdistill.config.recipes.data_sets import DATA
from ensdistill.config.recipes.experiments.experiment import on_top
from ensdistill.config.recipes.experiments.latentbe import PROTOCOL
from ensdistill.config.recipes.methods import METHODS

WIDTHS = {'cifar10': 1, 'cifar100': 4}  # of a WRN-28
EXPERIMENTS = {
  f'{method}_{data}': on_top(PROTOCOL, {'network.width': width})
  for data, width in WIDTHS.items()
  for method, found in METHODS.items()
  if DATA[data].task in found.tasks
}
