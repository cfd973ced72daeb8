"""The data sets of the recipes: network, augmentation and training schedule of each.

`settings` names settings as the command line does; a dict as a value sets a whole section.
`small` is what the variant `small` changes on top, so that a run ends within minutes on two CPU
cores. Its results show that a method runs, not how good it is.

CIFAR-10, CIFAR-100 and Tiny ImageNet select every network by validation accuracy, as the papers on
BatchEnsembles do (theirs by the mean accuracy of the members: pairs.py). All other data sets select
by validation NLL: on small validation sets many checkpoints share the best accuracy.
"""

from typing import Any, NamedTuple

Settings = dict[str, Any]


class DataSet(NamedTuple):
  """A data set, described in one line, with its recipe."""

  about: str
  settings: Settings
  small: Settings
  task: str = 'classification'
  auxiliary: str = ''  # the inputs without labels for methods that need some
  files: str = ''  # what must lie in the folder data.dir


SGD = {
  'name': 'sgd', 'rate': 0.1, 'momentum': 0.9, 'nesterov': True, 'decay': 5e-4, 'warmup': 0.025
}  # fmt: skip
SGD_IMAGENET = {
  'name': 'sgd', 'rate': 0.1, 'momentum': 0.9, 'nesterov': True, 'decay': 1e-4, 'warmup': 5 / 90
}  # fmt: skip
ADAM_SPIRALS = {'name': 'adam', 'rate': 2e-3, 'decay': 0.0}
ADAM_TOY = {'name': 'adam', 'rate': 5e-3, 'decay': 0.0}
ADAMW = {'name': 'adamw', 'rate': 5e-3, 'decay': 0.3}
# Noisy targets: training on labels needs ten times the decay of training on members.
ADAMW_LABELS = {'name': 'adamw', 'rate': 5e-3, 'decay': 3.0}

SMALL_IMAGES = {
  'data.limit': 4000,
  'teacher': {'steps': 200, 'epochs': 0, 'batch_size': 64},
  'student': {'steps': 200, 'epochs': 0, 'batch_size': 64},
  'evaluate': {'batch_size': 250, 'shift_examples': 100},
  'scores': 5,
}
OWN_TABLE: Settings = {
  'network.name': 'mlp',
  'network.hidden': (100, 100),
  'teacher': {'steps': 1500, 'batch_size': 50, 'members': 10, 'optimizer': ADAMW},
  'student': {'steps': 2500, 'batch_size': 50, 'optimizer': ADAMW},
  'student.targets': 'auto',
}
SMALL_TABLE = {'teacher.steps': 300, 'teacher.members': 5, 'student.steps': 500, 'scores': 5}
# The variant `small` also shrinks these networks.
SMALL_NETWORKS = {
  'resnet': {'depth': 8},
  'wide_resnet': {'depth': 10, 'width': 1},
  'vgg': {'depth': 11, 'channels': 8},
  'imagenet_resnet': {'channels': 8},
}

DATA = {
  'digits': DataSet(
    "scikit-learn's digits: 8 x 8 grey, 10 classes",
    {
      'data.name': 'digits',
      'network.name': 'resnet',
      'network.depth': 8,
      'teacher': {'steps': 150, 'batch_size': 64, 'optimizer': SGD},
      'student': {'steps': 250, 'batch_size': 64, 'optimizer': SGD},
    },
    small={'teacher.steps': 50, 'student.steps': 50, 'scores': 5},
    auxiliary='photographs',
  ),
  'spirals': DataSet(
    'three noisy spirals in the plane, 3 classes',
    {
      'data.name': 'spirals',
      'network.name': 'mlp',
      'network.hidden': (64, 64, 64, 64),
      'teacher': {'steps': 1500, 'batch_size': 128, 'members': 100, 'optimizer': ADAM_SPIRALS},
      'student': {'steps': 6000, 'batch_size': 128, 'optimizer': ADAM_SPIRALS},
      'student.targets': 'auto',
    },
    small={'teacher.steps': 300, 'teacher.members': 20, 'student.steps': 500, 'scores': 5},
    auxiliary='spirals_ood',
  ),
  'mnist': DataSet(
    'MNIST: 28 x 28 grey, 10 classes',
    {
      'data.name': 'mnist',
      'network.name': 'resnet',
      'network.depth': 8,
      'augment.crop': 2,
      'teacher': {'epochs': 20, 'batch_size': 128, 'optimizer': SGD},
      'student': {'epochs': 30, 'batch_size': 128, 'optimizer': SGD},
    },
    small=SMALL_IMAGES,
    auxiliary='fashion_mnist',
    files='mnist, prepared by TFDS or as mnist.npz',
  ),
  'fashion_mnist': DataSet(
    'Fashion-MNIST: 28 x 28 grey, 10 classes',
    {
      'data.name': 'fashion_mnist',
      'network.name': 'resnet',
      'network.depth': 20,
      'augment.crop': 2,
      'augment.flip': True,
      'teacher': {'epochs': 40, 'batch_size': 128, 'optimizer': SGD},
      'student': {'epochs': 60, 'batch_size': 128, 'optimizer': SGD},
    },
    small=SMALL_IMAGES,
    auxiliary='mnist',
    files='fashion_mnist, prepared by TFDS or as fashion_mnist.npz',
  ),
  'cifar10': DataSet(
    'CIFAR-10: 32 x 32 colour, 10 classes',
    {
      'data.name': 'cifar10',
      'network.name': 'wide_resnet',
      'network.depth': 28,
      'network.width': 1,
      'augment.crop': 4,
      'augment.flip': True,
      'teacher': {'epochs': 200, 'batch_size': 128, 'select': 'acc', 'optimizer': SGD},
      'student': {'epochs': 200, 'batch_size': 128, 'select': 'acc', 'optimizer': SGD},
    },
    small=SMALL_IMAGES,
    auxiliary='cifar100',
    files='cifar10, prepared by TFDS or as cifar10.npz',
  ),
  'cifar100': DataSet(
    'CIFAR-100: 32 x 32 colour, 100 classes',
    {
      'data.name': 'cifar100',
      'network.name': 'wide_resnet',
      'network.depth': 28,
      'network.width': 4,
      'augment.crop': 4,
      'augment.flip': True,
      'teacher': {'epochs': 200, 'batch_size': 128, 'select': 'acc', 'optimizer': SGD},
      'student': {'epochs': 200, 'batch_size': 128, 'select': 'acc', 'optimizer': SGD},
    },
    small=SMALL_IMAGES,
    auxiliary='cifar10',
    files='cifar100, prepared by TFDS or as cifar100.npz',
  ),
  'tiny_imagenet': DataSet(
    'Tiny ImageNet: 64 x 64 colour, 200 classes',
    {
      'data.name': 'folder:tiny-imagenet-200',
      'data.size': 64,
      'network.name': 'wide_resnet',
      'network.depth': 28,
      'network.width': 4,
      'augment.crop': 8,
      'augment.flip': True,
      'teacher': {'epochs': 100, 'batch_size': 128, 'select': 'acc', 'optimizer': SGD},
      'student': {'epochs': 100, 'batch_size': 128, 'select': 'acc', 'optimizer': SGD},
    },
    small=SMALL_IMAGES,
    auxiliary='cifar100',
    files='the folder tiny-imagenet-200',
  ),
  # Members share the order of examples, so that an image is decoded once for all of them.
  # Prepared by TFDS instead of a folder: --config.data.name=tfds:imagenet2012
  'imagenet': DataSet(
    'ImageNet: 224 x 224 colour, 1000 classes, streamed',
    {
      'data.name': 'folder:imagenet',
      'data.size': 224,
      'data.central': 0.875,
      'network.name': 'imagenet_resnet',
      'network.depth': 50,
      'augment.crop_area': 0.08,
      'augment.flip': True,
      'teacher': {'epochs': 90, 'batch_size': 256, 'optimizer': SGD_IMAGENET},
      'teacher.order': 'shared',
      'student': {'epochs': 90, 'batch_size': 256, 'optimizer': SGD_IMAGENET},
    },
    small={
      'data.limit': 4000,
      'teacher': {'steps': 20, 'epochs': 0, 'batch_size': 32, 'members': 2},
      'student': {'steps': 20, 'epochs': 0, 'batch_size': 32},
      'evaluate': {'batch_size': 100, 'shift': 'none'},
      'scores': 1,
    },
    auxiliary='folder:places365',
    files='the folder imagenet, with train and val inside',
  ),
  'toy1d': DataSet(
    'a curve in one dimension with a gap, 200 examples',
    {
      'data.name': 'toy1d',
      'network.name': 'mlp',
      'network.hidden': (64, 64),
      'teacher': {'steps': 2000, 'batch_size': 50, 'members': 20, 'optimizer': ADAM_TOY},
      'student': {'steps': 4000, 'batch_size': 50, 'optimizer': ADAM_TOY},
      'student.targets': 'auto',
    },
    small={'teacher.steps': 200, 'teacher.members': 5, 'student.steps': 400, 'scores': 5},
    task='regression',
  ),
  'diabetes': DataSet(
    "scikit-learn's diabetes: 442 patients, 10 columns",
    {
      'data.name': 'diabetes',
      'network.name': 'mlp',
      'network.hidden': (64, 64),
      'teacher': {'steps': 1000, 'batch_size': 50, 'members': 20, 'optimizer': ADAMW_LABELS},
      'student': {'steps': 2000, 'batch_size': 50, 'optimizer': ADAMW},
      'student.targets': 'auto',
    },
    small={'teacher.steps': 200, 'teacher.members': 5, 'student.steps': 400, 'scores': 5},
    task='regression',
  ),
  # A few hundred rows: without decay a member's variance collapses after a few epochs.
  # Students need more steps than members: on kin8nm, 2,500 leave Hydra at the NLL of one member.
  # Decay keeps them from targets that have almost no noise: on naval, Hydra's NLL is -3.2 with the
  # members' decay and -5.5 without, as that of one member.
  'uci': DataSet(
    'a UCI regression set by its standard splits',
    {
      'data.name': 'boston',
      'network.name': 'mlp',
      'network.hidden': (100, 100),
      'teacher': {'steps': 1500, 'batch_size': 50, 'members': 20, 'optimizer': ADAMW},
      'student': {'steps': 10000, 'batch_size': 50, 'optimizer': ADAMW | {'decay': 0.0}},
      'student.targets': 'auto',
    },
    small={'teacher.steps': 500, 'teacher.members': 10, 'student.steps': 1000, 'scores': 5},
    task='regression',
    files=(
      'boston.npz, concrete.npz, ... (x, y, test_mask); --config.data.name chooses a set, '
      '--config.data.split one of its splits'
    ),
  ),
  # Data of the user's own: settings that suit a few hundred to some ten thousand examples.
  'images': DataSet(
    'your own images: data.name=folder:DIR',
    {
      'data.name': 'folder:images',
      'data.size': 64,
      'network.name': 'resnet',
      'network.depth': 20,
      'augment.crop': 8,
      'augment.flip': True,
      'teacher': {'epochs': 100, 'batch_size': 64, 'optimizer': SGD},
      'student': {'epochs': 100, 'batch_size': 64, 'optimizer': SGD},
    },
    small=SMALL_IMAGES,
    auxiliary='photographs',
  ),
  'table': DataSet(
    'your own table, its classes: data.name=csv:FILE',
    OWN_TABLE | {'data.name': 'csv:classes.csv', 'data.family': 'categorical'},
    small=SMALL_TABLE,
    auxiliary='csv:auxiliary.csv',
  ),
  'regression': DataSet(
    'your own table, its numbers: data.name=csv:FILE',
    OWN_TABLE | {'data.name': 'csv:numbers.csv', 'data.family': 'gaussian'},
    small=SMALL_TABLE,
    task='regression',
  ),
}
