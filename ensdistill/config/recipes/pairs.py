"""What a method changes on one data set, in every variant: {recipe: settings}."""

from ensdistill.config.recipes.data_sets import ADAMW, ADAMW_LABELS, Settings
from ensdistill.config.recipes.methods import ONE_CYCLE, ONE_CYCLE_UNCLIPPED

# EnD² on CIFAR (Malinin et al., 2020): VGG-16 with dropout, its own augmentation, and Adam on one
# cycle for the ensemble, too.
END2_CIFAR: Settings = {
  'network': {'name': 'vgg', 'depth': 16, 'dropout': 0.5},
  'augment': {'crop': 4, 'pad': 'reflect', 'rotate': 15.0, 'flip': True},
  'teacher.epochs': 45,
  'teacher.optimizer': ONE_CYCLE_UNCLIPPED,
  'student.epochs': 90,
  'student.network.dropout': 0.3,
  'student.optimizer': ONE_CYCLE,
}  # fmt: skip

PAIRS: dict[str, Settings] = {
  **{
    f'{method}_{data}': END2_CIFAR
    for method in ('end', 'end_aux', 'end2', 'end2_aux', 'end2_proxy', 'end2_tdiv', 'pn')
    for data in ('cifar10', 'cifar100')
  },
  # Diversity Matters (Nam et al., 2021) distils at T = 1 on CIFAR-100, and at 4 on CIFAR-10. It
  # selects students by the mean accuracy of their members.
  'be_kd_cifar100': {'objective.temperature': 1.0, 'student.select': 'member_acc'},
  'be_gaussian_cifar100': {'objective.temperature': 1.0, 'student.select': 'member_acc'},
  'be_ods_cifar100': {
    'objective.temperature': 1.0, 'perturb.temperature': 1.0, 'student.select': 'member_acc'
  },
  'be_confods_cifar100': {
    'objective.temperature': 1.0, 'perturb.temperature': 1.0, 'student.select': 'member_acc'
  },
  **{
    f'{method}_{data}': {'student.select': 'member_acc'}
    for method in ('be_kd', 'be_gaussian', 'be_ods', 'be_confods')
    for data in ('cifar10', 'tiny_imagenet')
  },
  # Inputs are fixed, so teacher outputs are computed once.
  'kd_digits': {'student.targets': 'auto'},
  'end_spirals': {'student.targets': 'auto'},
  'end2_spirals': {'student.targets': 'auto'},
  'end_digits': {'student.targets': 'online'},
  'end2_digits': {'student.targets': 'online'},
  # Outputs of all members on 1.3 million images would not fit in memory.
  **{
    f'{method}_imagenet': {'student.targets': 'online'}
    for method in ('end', 'end_aux', 'end2', 'end2_aux', 'end2_proxy')
  },
  # A BatchEnsemble of four shares its weights and needs more steps than one network.
  **{
    f'{method}_digits': {'student.steps': 500}
    for method in (
      'be', 'be_kd', 'be_gaussian', 'be_ods', 'be_confods', 'latentbe', 'latentbe_tdiv_sdiv',
      'end_aux', 'end2_aux',
    )
  },
  'single_diabetes': {'student.optimizer': ADAMW_LABELS},
  # The gradients of the density are large when it enters the loss: on protein, one split of five
  # ends at an NLL of 3.5 without clipping, and all at 2.9 with it.
  'nw_uci': {'student.optimizer.clip': 1.0},
  'nw_gaussian_uci': {'student.optimizer.clip': 1.0},
  # Students of labels train as the members do.
  'single_uci': {'student.optimizer': ADAMW},
  'be_uci': {'student.optimizer': ADAMW},
  'multi_head_uci': {'student.optimizer': ADAMW},
}  # fmt: skip
