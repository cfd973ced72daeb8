"""Paper 3, Diversity Matters (Nam et al., 2021), and its controls: the variants paper and paper3.

Known from the authors' code: everything on CIFAR-100 and CIFAR-10 but the controls' own settings.
On CIFAR-10 they validate teachers every 20 epochs and students every 25; here one rule holds for
both.
Teachers and single students are selected by validation accuracy, BatchEnsemble students by the mean
accuracy of their members. The rate is constant within an epoch. Rank-one factors have half the rate
and do not decay (in every variant of these methods).
"""

from ensdistill.config.recipes.data_sets import Settings
from ensdistill.config.recipes.experiments.experiment import Experiment, lacking, on_top

SGD = {
  'name': 'sgd', 'momentum': 0.9, 'nesterov': False, 'schedule': 'step_linear', 'per_epoch': True
}  # fmt: skip
CIFAR100: Settings = {
  'data.valid': 5000,
  'validate': 'first,every=30,tail=0.1',
  'network': {'name': 'wide_resnet', 'depth': 28, 'width': 10, 'init': 'fan_out'},
  'augment': {'crop': 4, 'flip': True},
  'teacher': {'members': 4, 'epochs': 300, 'batch_size': 256, 'select': 'acc'},
  'teacher.optimizer': {**SGD, 'rate': 0.2, 'decay': 5e-4, 'warmup': 5 / 300},
  'student': {'epochs': 300, 'batch_size': 64},
  'student.optimizer': {**SGD, 'rate': 0.05, 'decay': 5e-4, 'warmup': 5 / 300},
}
CIFAR10: Settings = {
  'data.valid': 5000,
  'validate': 'first,every=25,tail=0.1',
  'network': {'name': 'resnet', 'depth': 32, 'init': 'fan_out'},
  'augment': {'crop': 4, 'flip': True},
  'teacher': {'members': 4, 'epochs': 200, 'batch_size': 512, 'select': 'acc'},
  'teacher.optimizer': {**SGD, 'rate': 0.4, 'decay': 4e-4, 'warmup': 5 / 200},
  'student': {'epochs': 250, 'batch_size': 128},
  'student.optimizer': {**SGD, 'rate': 0.1, 'decay': 4e-4, 'warmup': 5 / 250},
}
# Network and schedule are not known: ours, those of CIFAR-100 with a smaller network.
TINY = on_top(CIFAR100, {'data.valid': 10_000, 'network.width': 4})
DATA = {'cifar10': CIFAR10, 'cifar100': CIFAR100, 'tiny_imagenet': TINY}
TEMPERATURES = {'cifar10': 4.0, 'cifar100': 1.0, 'tiny_imagenet': 1.0}

# data set: (what differs, what is not known)
LACKS = {
  'cifar10': ('projection shortcuts; teachers validated by 25 epochs (20)', ''),
  'cifar100': ('', ''),
  'tiny_imagenet': ('validation drawn by seed (theirs: the last)', 'network, schedule'),
}
CONTROLS = ('be', 'kd', 'kd_gaussian')  # not known: how the student trains; ours: as the others


def _methods(data: str) -> dict[str, tuple[str, Settings]]:
  """Return {method: (variant, what it changes on top of the data set's settings)}."""
  base, temperature = DATA[data], TEMPERATURES[data]
  distilled = {'objective.label_weight': 0.1, 'objective.temperature': temperature}
  perturbed = {'perturb.temperature': temperature}
  members, accuracy = {'student.select': 'member_acc'}, {'student.select': 'acc'}
  like_a_member = {
    f'student.{name.removeprefix("teacher.")}': value
    for name, value in on_top(base, {}).items()
    if name.startswith('teacher.') and name != 'teacher.members'
  }
  return {
    'single': ('paper3', like_a_member),
    'be': ('paper3', members),
    'kd': ('paper3', accuracy | distilled),
    'kd_gaussian': ('paper3', accuracy | distilled),
    'be_kd': ('paper', members | distilled),
    'be_gaussian': ('paper', members | distilled),
    'be_ods': ('paper', members | distilled | perturbed),
    'be_confods': ('paper', members | distilled | perturbed),
  }


EXPERIMENTS = {
  f'{method}_{data}:{variant}': Experiment(
    on_top(DATA[data], changes), lacking(*LACKS[data], is_control=method in CONTROLS)
  )
  for data in DATA
  for method, (variant, changes) in _methods(data).items()
}
