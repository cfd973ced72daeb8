"""What a method changes on one data set, in every variant: {recipe: settings}."""

from ensdistill.config.recipes.data_sets import ADAMW, ADAMW_LABELS, Settings
from ensdistill.config.recipes.methods import ONE_CYCLE

# EnD² on CIFAR (Malinin et al., 2020): VGG-16 with dropout, its own augmentation, and Adam on one
# cycle for the ensemble, too.
END2_CIFAR: Settings = {
  'network': {'name': 'vgg', 'depth': 16, 'dropout': 0.5},
  'augment': {'crop': 4, 'pad': 'reflect', 'rotate': 15.0, 'flip': True},
  'teacher.epochs': 45,
  'teacher.optimizer': {
    'name': 'adam', 'rate': 1e-2, 'schedule': 'one_cycle', 'warmup': 0.0, 'decay': 0.0, 'clip': 0.0
  },
  'student.epochs': 90,
  'student.network.dropout': 0.3,
  'student.optimizer': ONE_CYCLE,
}  # fmt: skip

PAIRS: dict[str, Settings] = {
  'end_cifar10': END2_CIFAR,
  'end_cifar100': END2_CIFAR,
  'end_aux_cifar10': END2_CIFAR,
  'end_aux_cifar100': END2_CIFAR,
  'end2_cifar10': END2_CIFAR,
  'end2_cifar100': END2_CIFAR,
  'end2_aux_cifar10': END2_CIFAR,
  'end2_aux_cifar100': END2_CIFAR,
  'end2_proxy_cifar10': END2_CIFAR,
  'end2_proxy_cifar100': END2_CIFAR,
  'end2_tdiv_cifar10': END2_CIFAR,
  'end2_tdiv_cifar100': END2_CIFAR,
  'pn_cifar10': END2_CIFAR,
  'pn_cifar100': END2_CIFAR,
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
  'be_kd_cifar10': {'student.select': 'member_acc'},
  'be_gaussian_cifar10': {'student.select': 'member_acc'},
  'be_ods_cifar10': {'student.select': 'member_acc'},
  'be_confods_cifar10': {'student.select': 'member_acc'},
  'be_kd_tiny_imagenet': {'student.select': 'member_acc'},
  'be_gaussian_tiny_imagenet': {'student.select': 'member_acc'},
  'be_ods_tiny_imagenet': {'student.select': 'member_acc'},
  'be_confods_tiny_imagenet': {'student.select': 'member_acc'},
  # Inputs are fixed, so teacher outputs are computed once.
  'kd_digits': {'student.targets': 'auto'},
  'end_spirals': {'student.targets': 'auto'},
  'end2_spirals': {'student.targets': 'auto'},
  'end_digits': {'student.targets': 'online'},
  'end2_digits': {'student.targets': 'online'},
  # Outputs of all members on 1.3 million images would not fit in memory.
  'end_imagenet': {'student.targets': 'online'},
  'end_aux_imagenet': {'student.targets': 'online'},
  'end2_imagenet': {'student.targets': 'online'},
  'end2_aux_imagenet': {'student.targets': 'online'},
  'end2_proxy_imagenet': {'student.targets': 'online'},
  # A BatchEnsemble of four shares its weights and needs more steps than one network.
  'be_digits': {'student.steps': 500},
  'be_kd_digits': {'student.steps': 500},
  'be_gaussian_digits': {'student.steps': 500},
  'be_ods_digits': {'student.steps': 500},
  'be_confods_digits': {'student.steps': 500},
  'latentbe_digits': {'student.steps': 500},
  'latentbe_tdiv_sdiv_digits': {'student.steps': 500},
  'end_aux_digits': {'student.steps': 500},
  'end2_aux_digits': {'student.steps': 500},
  'single_diabetes': {'student.optimizer': ADAMW_LABELS},
  # Students of labels train as the members do.
  'single_uci': {'student.optimizer': ADAMW},
  'be_uci': {'student.optimizer': ADAMW},
  'multi_head_uci': {'student.optimizer': ADAMW},
}  # fmt: skip
