"""Paper 1, Hydra (Tran et al., 2020).

Known: the form of the loss and of a head, the data sets, and ResNet-20 on CIFAR-10. An ensemble of
50 is not confirmed by a source. Temperature, optimiser, schedule and selection (validation NLL) are
not known: ours.
"""

from ensdistill.config.recipes.data_sets import Settings
from ensdistill.config.recipes.experiments.experiment import Experiment, lacking

# A head is the last block, pooling and the dense layer: head_stages=1, as in every variant.
CIFAR10: Settings = {
  'network.name': 'resnet',
  'network.depth': 20,
  'teacher.members': 50,
  'teacher.together': 10,
}
# The network is not known: ours.
MNIST: Settings = {'teacher.members': 50, 'teacher.together': 10}
# As a later paper (Park et al., 2025, arXiv:2510.19290) ran Hydra: 50 teachers with two hidden
# layers of 100, trained by least squares with one variance each; students with one hidden layer of
# 50, trained by Adam. Rate, steps and the teachers' decay are not known: ours. Weight decay
# leaves students of this size far from their teachers.
UCI: Settings = {
  'network.hidden': (100, 100),
  'teacher.members': 50,
  'teacher.loss': 'least_squares',
  'teacher.variance': 'scalar',
  'student.network.hidden': (50,),
  'student.optimizer.decay': 0.0,
}

UNKNOWN = 'temperature, optimiser, schedule'
UCI_LACKS = lacking(
  "a later paper's setting; teachers by AdamW (theirs: Adam)", "rate, steps, teachers' decay"
)

EXPERIMENTS = {
  'hydra_cifar10:paper': Experiment(CIFAR10, lacking(unknown=UNKNOWN)),
  'hydra_mnist:paper': Experiment(MNIST, lacking(unknown=f'{UNKNOWN}, network')),
  'hydra_uci:paper': Experiment(UCI, UCI_LACKS),
  'be_kd_uci:paper': Experiment(UCI, UCI_LACKS),
  'hydra_toy1d': Experiment({}, lacking(unknown='all but the idea')),
}
