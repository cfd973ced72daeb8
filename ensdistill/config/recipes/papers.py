"""The papers: the citation of each, its methods, and its own settings, the variant `paper`."""

from typing import NamedTuple

from ensdistill.config.recipes.data_sets import Settings


class Paper(NamedTuple):
  """A paper, and {recipe: what its variant `paper` changes}."""

  citation: str
  methods: tuple[str, ...]
  variants: dict[str, Settings] = {}


# CIFAR-100: WRN-28-10, 300 epochs.
DIVERSITY_MATTERS_CIFAR100: Settings = {
  'network.depth': 28,
  'network.width': 10,
  'teacher': {'epochs': 300, 'batch_size': 256, 'select': 'acc'},
  'teacher.optimizer': {
    'rate': 0.2, 'schedule': 'step_linear', 'warmup': 5 / 300, 'nesterov': False
  },
  'student': {'epochs': 300, 'batch_size': 64, 'select': 'member_acc'},
  'student.optimizer': {
    'rate': 0.05, 'schedule': 'step_linear', 'warmup': 5 / 300, 'nesterov': False
  },
}  # fmt: skip
# CIFAR-100: WRN-28-4, an ensemble of four, 200 epochs.
LATENTBE_CIFAR100: Settings = {
  'network.depth': 28,
  'network.width': 4,
  'teacher.members': 4,
  'teacher.epochs': 200,
  'student.epochs': 200,
}
# UCI sets, as a later paper ran Hydra: 50 teachers of one variance each, trained by least squares,
# and students of one hidden layer.
HYDRA_UCI: Settings = {
  'teacher.members': 50,
  'teacher.loss': 'least_squares',
  'teacher.variance': 'scalar',
  'student.network.hidden': (50,),
}

PAPERS = {
  'Knowledge distillation': Paper(
    'Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531',
    ('kd', 'kd_gaussian'),
  ),
  'Prior Networks': Paper(
    'Malinin, Gales: Predictive Uncertainty Estimation via Prior Networks. NeurIPS 2018. '
    'arXiv:1802.10501',
    ('pn',),
  ),
  'BatchEnsemble': Paper(
    'Wen, Tran, Ba: BatchEnsemble: An Alternative Approach to Efficient Ensemble and Lifelong '
    'Learning. ICLR 2020. arXiv:2002.06715',
    ('be',),
  ),
  'Hydra': Paper(
    'Tran, Veeling, Roth, Swiatkowski, Dillon, Snoek, Mandt, Salimans, Nowozin, Jenatton: Hydra: '
    'Preserving Ensemble Diversity for Model Distillation. 2020. arXiv:2001.04694',
    ('multi_head', 'hydra', 'hydra_gaussian', 'hydra_confods'),
    {
      # ResNet-20 with 50 heads, each its last block, pooling and dense layer. The paper's schedule
      # is not known; this one is ours.
      'hydra_cifar10': {
        'network.name': 'resnet',
        'network.depth': 20,
        'teacher.members': 50,
        'teacher.together': 10,
      },
      'hydra_uci': HYDRA_UCI,
      'be_kd_uci': HYDRA_UCI,
    },
  ),
  'EnD²': Paper(
    'Malinin, Mlodozeniec, Gales: Ensemble Distribution Distillation. ICLR 2020. arXiv:1905.00076',
    ('end2', 'end2_aux', 'end2_tdiv'),
    {
      # An ensemble of 100. The paper's network and augmentation are in every variant: pairs.py.
      'end2_cifar10': {'teacher.members': 100, 'teacher.together': 10},
      'end2_cifar100': {'teacher.members': 100, 'teacher.together': 10},
      'end2_aux_cifar10': {'teacher.members': 100, 'teacher.together': 10},
      'end2_aux_cifar100': {'teacher.members': 100, 'teacher.together': 10},
    },
  ),
  'Proxy-EnD²': Paper(
    'Ryabinin, Malinin, Gales: Scaling Ensemble Distribution Distillation to Many Classes with '
    'Proxy Targets. NeurIPS 2021. arXiv:2105.06987',
    ('end2_proxy',),
  ),
  'Regression Prior Networks': Paper(
    'Malinin, Chervontsev, Provilkov, Gales: Regression Prior Networks. 2020. arXiv:2006.11590',
    ('nw', 'nw_gaussian'),
  ),
  'Diversity Matters': Paper(
    'Nam, Yoon, Lee, Lee: Diversity Matters When Learning From Ensembles. NeurIPS 2021. '
    'arXiv:2110.14149',
    ('be_kd', 'be_gaussian', 'be_ods', 'be_confods'),
    {
      'be_kd_cifar100': DIVERSITY_MATTERS_CIFAR100,
      'be_gaussian_cifar100': DIVERSITY_MATTERS_CIFAR100,
      'be_ods_cifar100': DIVERSITY_MATTERS_CIFAR100,
      'be_confods_cifar100': DIVERSITY_MATTERS_CIFAR100,
    },
  ),
  'LatentBE': Paper(
    'Nam, Lee, Heo, Lee: Improving Ensemble Distillation With Weight Averaging and Diversifying '
    'Perturbation. ICML 2022. arXiv:2206.15047',
    ('latentbe', 'latentbe_tdiv_sdiv'),
    {
      'latentbe_cifar100': LATENTBE_CIFAR100,
      'latentbe_tdiv_sdiv_cifar100': LATENTBE_CIFAR100,
    },
  ),
}
