"""Paper 4, LatentBE (Nam et al., 2022), and its controls: the variants paper and paper4.

Known from the authors' code: everything on CIFAR-100. All networks, teachers and students, are
selected by validation accuracy (LatentBE's is that of the averaged network), and initialised by
fan-in with gain sqrt(2), the dense layer included. The L2 penalty is on all parameters. That of the
rank-one factors pulls them to one, and their gradient is multiplied by M.
"""

from ensdistill.config.recipes.data_sets import Settings
from ensdistill.config.recipes.experiments.experiment import Experiment, lacking, on_top

SGD = {
  'name': 'sgd', 'rate': 0.1, 'momentum': 0.9, 'nesterov': True, 'schedule': 'cosine',
  'warmup': 0.025, 'decay': 5e-4,
}  # fmt: skip
# The schedule, the split and the selection, which the variant `common` has, too.
PROTOCOL: Settings = {
  'data.valid': 5000,
  'validate': 'first,every=20,tail=0.1',
  'network': {'name': 'wide_resnet', 'depth': 28, 'dropout': None},
  'augment': {'crop': 4, 'pad': None, 'rotate': None, 'flip': True},
  'teacher': {'members': 4, 'epochs': 200, 'batch_size': 128, 'select': 'acc'},
  'teacher.optimizer': SGD,
  'student': {'epochs': 200, 'batch_size': 128, 'select': 'acc'},
  'student.network.dropout': None,
  'student.optimizer': SGD,
}
CIFAR100 = on_top(PROTOCOL, {'network.width': 4, 'network.init': 'fan_in'})
# Not known: ours, as on CIFAR-100. The network is that of other runs of the authors.
CIFAR10 = on_top(CIFAR100, {'network.width': 1})
# Not known: ours, as on CIFAR-100.
TINY = on_top(CIFAR100, {'data.valid': 10_000})
DATA = {'cifar10': CIFAR10, 'cifar100': CIFAR100, 'tiny_imagenet': TINY}
# data set: (what differs, what is not known)
LACKS = {
  'cifar10': ('', 'all but the losses, as on CIFAR-100'),
  'cifar100': ('', ''),
  'tiny_imagenet': ('validation drawn by seed (theirs: the last)', 'network, schedule'),
}
METHODS = {
  'single': 'paper4',
  'be': 'paper4',
  'kd': 'paper',
  'kd_gaussian': 'paper4',
  'end2_proxy': 'paper4',
  'latentbe': 'paper',
  'latentbe_tdiv_sdiv': 'paper',
}
CONTROLS = ('be', 'kd_gaussian', 'end2_proxy')  # not known: how the student trains


EXPERIMENTS = {
  f'{method}_{data}:{variant}': Experiment(
    settings, lacking(*LACKS[data], is_control=method in CONTROLS)
  )
  for data, settings in DATA.items()
  for method, variant in METHODS.items()
}
