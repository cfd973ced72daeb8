"""Paper 2, EnD² (Malinin et al., 2020), its baselines and controls: the variants paper and paper2.

Known from the authors' code: VGG-16 and its initial weights, all 50,000 images for training, the
last checkpoint (no selection), the temperature schedule, targets from unaugmented images,
unaugmented auxiliary images. Known from a reproduction: Adam on one cycle, epochs, dropout,
augmentation. The schedule of the temperature is the objectives' default: 10 up to a third of the
run, 1 from two thirds on. The students' gradient clipping at 10 is the authors'; their optimiser is
SGD with steps.
"""

from ensdistill.config.recipes.data_sets import Settings
from ensdistill.config.recipes.experiments.experiment import Experiment, lacking, on_top
from ensdistill.config.recipes.methods import ONE_CYCLE, ONE_CYCLE_UNCLIPPED

IMAGES: Settings = {
  'data.valid': 0,
  'network': {
    'name': 'vgg', 'depth': 16, 'head': 'pooled', 'dropout': 0.5, 'init': 'fan_in', 'init_gain': 1.0
  },
  'augment': {'crop': 4, 'pad': 'reflect', 'rotate': 15.0, 'flip': True},
  'teacher': {'members': 100, 'together': 10, 'epochs': 45, 'batch_size': 128, 'keep': 'last'},
  'teacher.optimizer': ONE_CYCLE_UNCLIPPED,
  'student': {'epochs': 90, 'batch_size': 128, 'keep': 'last'},
  'student.network.dropout': 0.3,
  'student.optimizer': ONE_CYCLE,
  'evaluate.ood': 'lsun',
}  # fmt: skip
# A member, trained on labels as the ensemble is.
SINGLE = on_top(
  IMAGES,
  {'student.epochs': 45, 'student.network.dropout': 0.5, 'student.optimizer.clip': 0.0},
)
# The reproduction's EnD has a constant temperature, 1 or 2.5. The authors' is the method `end`.
KD = on_top(IMAGES, {'objective.temperature': 2.5, 'student.targets': 'clean_cache'})

METHODS = {
  'single': ('paper2', SINGLE),
  'kd': ('paper2', KD),
  'end': ('paper', IMAGES),
  'end_aux': ('paper', IMAGES),
  'end2': ('paper', IMAGES),
  'end2_aux': ('paper', IMAGES),
  'end2_proxy': ('paper2', IMAGES),
  'pn': ('paper', IMAGES),
}
DIFFERS = "LSUN must be prepared; Adam, schedule: a reproduction's; inputs standardised"


def _lacks(method: str, data: str) -> str:
  unknown = ['schedule', 'augmentation'] if data == 'tiny_imagenet' else []
  if unknown and method in ('end_aux', 'end2_aux', 'pn'):
    unknown.append('auxiliary set')
  return lacking(DIFFERS, ', '.join(unknown))


EXPERIMENTS = {
  f'{method}_spirals': Experiment(
    {}, lacking('selected by validation NLL (theirs: not)', 'schedule')
  )
  for method in ('end', 'end_aux', 'end2', 'end2_aux')
} | {
  f'{method}_{data}:{variant}': Experiment(settings, _lacks(method, data))
  for data in ('cifar10', 'cifar100', 'tiny_imagenet')
  for method, (variant, settings) in METHODS.items()
}
