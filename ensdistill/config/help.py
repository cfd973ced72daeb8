"""A line of help for every setting. Names of parts come from the parts' own tables."""

from collections.abc import Iterable

from ensdistill import data, nets, perturb, students
from ensdistill.config.settings import TARGETS, TEACHER_LOSSES, part_defaults
from ensdistill.members import STRATEGIES
from ensdistill.training import bad_steps, onednn, optim


def choices(names: Iterable[str]) -> str:
  """Return names as text: 'a, b or c'."""
  *first, last = names
  return f'{", ".join(first)} or {last}'


# One line for every setting. Sections of one kind share theirs: 'optimizer.rate' stands for
# teacher.optimizer.rate and student.optimizer.rate, 'steps' for teacher.steps and student.steps.
HELP = {
  'name': 'name of the run, and of its folder runs/NAME',
  'workdir': 'folder of the run, instead of runs/NAME; --workdir does the same',
  'seed': 'seed of everything that is drawn: weights, order of examples, data splits',
  'seeds': 'number of students to train; the report shows mean and standard error',
  'student.seed': 'number of the first student: its seed among those of the same ensemble',
  'checkpoint_seconds': 'seconds between checkpoints',
  'watchdog_minutes': 'end a run after this many minutes without progress; 0: never',
  'steps_per_call': 'training steps in one compiled call; 0: chosen by their speed',
  'onednn': f"{choices(onednn.CHOICES)}: oneDNN's convolutions on x86 CPUs; auto: in long stages",
  'logs': 'number of times that a stage logs its losses',
  'scores': 'number of validations in a stage, evenly spread',
  'validate': "epochs with a validation, instead of scores: 'first,every=20,tail=0.1'",
  'on_nan': f'{choices(bad_steps.ON_NAN)} at a loss that is not finite; default: stop',
  'profile': 'number of steps of each stage to trace for Perfetto or TensorBoard',
  'cache': "folder of XLA's compilation cache; '' switches it off",
  'imports': 'files or modules that register parts, such as a.py,b; also --import=a.py',
  'imports_content': 'digests of the imports that the run uses, filled in by the run',
  'sinks': 'trackers: wandb, mlflow, trackio or module:Class; such as wandb,mlflow',
  'data.name': 'data set: digits, cifar10, folder:DIR, csv:FILE, npz:FILE or tfds:NAME',
  'data.dir': 'folder of prepared data sets and npz files',
  'data.valid': 'number of training examples kept for validation; 0: none, all of them train',
  'data.limit': 'largest number of examples of each part; 0: all',
  'data.aux': 'data set whose inputs join the training set without labels',
  'data.split': "number of one of the data set's own splits",
  'data.stream': f'{choices(data.loading.STREAM)}: stream training examples to the device',
  'data.stream_bytes': 'size of a part in bytes above which data.stream=auto streams',
  'data.workers': 'processes that decode what streams; 0: threads; default: one per core',
  'data.content': 'fingerprint of the data, filled in by the run',
  'data.size': 'side of the images in pixels; of toy1d: number of examples',
  'data.central': 'share of the shorter side that a test image shows',
  'data.unreadable': 'stop or skip: what to do with images that cannot be read',
  'data.target': "column of a csv file's targets",
  'data.family': 'categorical or gaussian: what the targets of a csv file are',
  'data.noise': 'noise of spirals and toy1d',
  'data.per_class': 'examples of each class of spirals',
  'data.function': 'curve of toy1d: wave, cubic or step',
  'augment.crop': 'pad images by this number of pixels, then crop at random',
  'augment.pad': 'zero or reflect: the pixels that a crop pads with',
  'augment.flip': 'mirror images left and right at random',
  'augment.rotate': 'rotate padded images by at most this many degrees, before the crop',
  'augment.cutout': 'side in pixels of a random square that is set to zero',
  'augment.mixup': 'mix pairs of examples, with shares from Beta(mixup, mixup)',
  'augment.crop_area': 'smallest share of an image in a file that a random crop shows',
  'network.name': choices(nets.NETWORKS),
  'network.content': 'digest of the source of a custom network, filled in by the run',
  'network.dtype': f'{choices(nets.DTYPES)}, of activations',
  'network.depth': 'number of layers; of a vit: of blocks',
  'network.width': 'factor on the channels of a wide_resnet',
  'network.hidden': 'units of the hidden layers of an mlp, such as (64,64)',
  'network.channels': 'channels of the first stage; of a vit: of all',
  'network.heads': 'attention heads of a vit',
  'network.head': "flat or pooled: input of a vgg's dense layers; pooled: EnD2's authors",
  'network.patch': 'side of the patches of a vit in pixels',
  'network.norm': choices(nets.layers.NORMS),
  'network.dropout': 'dropout rate',
  'network.init': 'fan_in or fan_out, of initial weights; default: He, LeCun in linear layers',
  'network.init_gain': 'factor g of initial weights of deviation g / sqrt(fan); default: sqrt(2)',
  'network.remat': 'compute stages again for gradients: less memory, one more forward pass',
  'student.network.name': "network of the student; '': the teacher's",
  'steps': 'length in training steps; 0: given in epochs',
  'epochs': 'length in epochs; 0: given in steps',
  'batch_size': 'examples in a batch, over all devices',
  'microbatches': 'parts of a batch whose gradients are computed in turn, to need less memory',
  'keep': 'best or last: the checkpoint to keep',
  'select': 'validation score that chooses the best checkpoint, such as nll',
  'strategy': f'{choices(("auto", *STRATEGIES))}: how networks train together',
  'variance': 'input or scalar: the variance of a regressor depends on the input or not',
  'teacher.dir': 'folder of the stored teachers; default: beside the folder of the run',
  'teacher.outputs': 'npz file with outputs [N, M, O] of an ensemble that is trained already',
  'teacher.source': 'module:function or file.py:function that returns an ensemble in JAX',
  'teacher.content': 'digest of teacher.outputs or teacher.source, filled in by the run',
  'teacher.check_order': 'refuse teacher.outputs if all members are at chance; default: true',
  'teacher.members': 'number of ensemble members; 0: those of teacher.outputs or teacher.source',
  'teacher.order': 'own, shared or each: order of examples of the members; each: own, always',
  'teacher.sharded': 'devices share the variables of the teacher; default: if it is large',
  'teacher.together': 'number of members that train together; 0: all',
  'teacher.loss': choices(TEACHER_LOSSES),
  'student.kind': choices(students.STUDENTS),
  'student.members': "number of student members; 0: the teacher's number",
  'student.head_stages': 'stages of the network in each head; 0: the last dense layer only',
  'student.factors': "ones or normal: initial values of a batch_ensemble's factors",
  'student.factor_std': "standard deviation of a batch_ensemble's initial factors",
  'student.bias': 'member or shared: the bias of the last layer of a batch_ensemble',
  'student.phases': '1, or 2: one head first, then all heads (Hydra)',
  'student.first_phase': 'share of the steps in the first of two phases',
  'student.targets': f'{choices(TARGETS)}: when teacher outputs are computed',
  'student.view': 'members or averaged: the view that validation scores and the report shows',
  'optimizer.name': choices(optim.OPTIMIZERS),
  'optimizer.rate': 'learning rate at its peak',
  'optimizer.schedule': choices(optim.SCHEDULES),
  'optimizer.warmup': 'share of the steps in which the rate rises from zero',
  'optimizer.per_epoch': 'change the rate once per epoch instead of once per step',
  'optimizer.decay': 'weight decay',
  'optimizer.decay_on': f'{choices(optim.DECAY_ON)}: the parameters that decay',
  'optimizer.clip': 'largest norm of the gradient; 0: not clipped',
  'optimizer.momentum': 'momentum of sgd',
  'optimizer.nesterov': 'use Nesterov momentum in sgd',
  'optimizer.factor_rate': "learning rate of a batch_ensemble's factors, relative to the rate",
  'optimizer.factor_decay': f'{choices(optim.FACTOR_DECAY)}: the value to which the factors decay',
  'optimizer.factor_scale': "one or members: factor on the factors' gradient",
  'objective.name': 'what the student matches, such as mean, members or dirichlet',
  'objective.label_weight': 'weight of the loss on labels, in [0, 1]',
  'objective.labels_on': 'clean or perturbed: the inputs of the loss on labels',
  'objective.temperature': 'temperature that softens teacher and student',
  'objective.smoothing': "smoothing of the members' probabilities (dirichlet)",
  'objective.held': 'share of the steps with the initial value of the schedule',
  'objective.end': 'share of the steps after which the schedule has ended',
  'objective.start': 'initial log kappa and log(nu - 2) (normal_wishart)',
  'objective.form': 'reverse or forward KL divergence (proxy_dirichlet)',
  'objective.beta': 'target precision of labelled inputs (prior_network)',
  'objective.aux_weight': 'weight of the auxiliary inputs (prior_network)',
  'perturb.name': choices(perturb.PERTURBATIONS),
  'perturb.eta': 'step per feature (root mean square) in 1/255; tables: in standard deviations',
  'perturb.temperature': "temperature of the teacher's predictions (ods, conf_ods)",
  'perturb.precision': f'matmul precision of the gradient: {choices(perturb.PRECISIONS)}',
  'evaluate.batch_size': 'examples in a batch of the evaluation',
  'evaluate.precision': f'matmul precision: {choices(perturb.PRECISIONS)}',
  'evaluate.ood': 'out-of-distribution sets: default, none, or names such as a,b',
  'evaluate.shift': 'corruptions of the test set: default, all, none, or names such as a,b',
  'evaluate.shift_examples': 'number of test examples that are corrupted',
  'evaluate.train': 'also evaluate every model on the training inputs, without augmentation',
}


def help_of(name: str) -> str:
  """Return the line of help of a setting such as 'teacher.optimizer.rate'."""
  short = name
  while short not in HELP and '.' in short:
    short = short.partition('.')[2]
  if short in HELP:
    return HELP[short]
  parts = part_defaults(name)  # imported ones
  if not parts:
    raise KeyError(name)
  return f'setting of {", ".join(parts)}'


def default_of(name: str, value) -> str:
  """Return the default of a setting as text; where it is unset, that of the parts that have it."""
  by_part = part_defaults(name)
  if value is not None or not by_part:
    return shown(value)
  if name.startswith('student.network.'):
    own = name.removeprefix('student.')
    return f"that of {own}; with student.network.name, the network's own"
  by_value: dict[str, list[str]] = {}
  for part, default in by_part.items():
    if default is None:
      continue
    text = shown(round(default, 4) if isinstance(default, float) else default)
    by_value.setdefault(text, []).append(part)
  if not by_value:
    return shown(None)
  if len(by_value) == 1 and None not in by_part.values():
    return next(iter(by_value))
  return '; '.join(f'{text} in {", ".join(parts)}' for text, parts in by_value.items())


def shown(value) -> str:
  """Return a value as the command line takes it."""
  if value is None:
    return 'unset'
  return str(value) if value != '' else "''"
