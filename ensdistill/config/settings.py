"""The settings of a configuration: their defaults, a line of help for each, and layers of them.

Settings that only some parts have (a network's width, an objective's temperature) are collected
from the parts' own signatures. An unset one is left to the part's default, and one that the chosen
part does not have is refused.
"""

import contextlib
import inspect
import types
import typing
from collections.abc import Collection, Iterable, Mapping

import ml_collections
from ml_collections import config_dict

from ensdistill import data, names, nets, objectives, perturb, students
from ensdistill.config import identity
from ensdistill.members import STRATEGIES
from ensdistill.training import optim

TARGETS = ('online', 'auto', 'clean_cache', 'stored')
KEPT = ('clean_cache', 'stored')  # the targets that are computed once
TEACHER_LOSSES = {'nll': 'none', 'least_squares': 'least_squares'}  # the objective of each
AUGMENT = {'images': data.augment.make, 'batch': data.augment.mixing, 'files': data.windows.crops}


def default() -> ml_collections.ConfigDict:
  """Return every setting with its default value, locked; a recipe changes some."""
  config = dict(
    name='',
    workdir='',
    seed=0,
    seeds=1,
    data=_data(),
    augment=optional(AUGMENT),
    network=dict(name='resnet', dtype='float32', **optional(nets.NETWORKS | nets.COMMON)),
    teacher=_teacher(),
    student=_student(),
    objective=dict(
      name='mean', label_weight=0.0, labels_on='clean', **optional(objectives.OBJECTIVES)
    ),
    perturb=dict(name='none', **optional(perturb.PERTURBATIONS)),
    evaluate=_evaluate(),
    checkpoint_seconds=30.0,
    steps_per_call=0,
    logs=100,
    scores=20,
    validate=config_dict.placeholder(str),
    profile=0,
    cache=config_dict.placeholder(str),
  )
  return ml_collections.ConfigDict(config).lock()


def _data() -> dict:
  return dict(
    name='digits',
    dir='',
    valid=config_dict.placeholder(int),
    limit=0,
    aux='',
    split=0,
    **optional(data.CONFIGURED),
    stream='auto',
    stream_bytes=data.loading.STREAM_BYTES,
    workers=config_dict.placeholder(int),
    content='',
  )


def _teacher() -> dict:
  return dict(
    _training(),
    dir='',
    members=4,
    order='own',
    together=0,
    loss=config_dict.placeholder(str),
    **optional({'single': students.STUDENTS['single']}),
    optimizer=_optimizer(),
  )


def _student() -> dict:
  return dict(
    _training(),
    kind='single',
    members=0,
    **optional(students.STUDENTS),
    phases=1,
    first_phase=0.5,
    targets='online',
    view='members',
    network=dict(name='', **optional(nets.NETWORKS | nets.COMMON)),
    optimizer=_optimizer(factor_rate=1.0, factor_decay='none', factor_scale='one'),
  )


def _training() -> dict:
  return dict(steps=0, epochs=0, batch_size=128, keep='best', select='nll', strategy='auto')


def _optimizer(**settings) -> dict:
  return dict(
    name='sgd',
    rate=0.1,
    schedule='cosine',
    warmup=0.0,
    decay=5e-4,
    decay_on='all',
    clip=0.0,
    per_epoch=config_dict.placeholder(bool),
    **settings,
    **optional(optim.OPTIMIZERS),
  )


def _evaluate() -> dict:
  return dict(
    batch_size=500,
    precision='highest',
    ood='default',
    shift='default',
    shift_examples=500,
    train=config_dict.placeholder(bool),
  )


def one_of(known: Iterable[str]) -> str:
  """Return known names as text: 'a, b or c'."""
  *first, last = known
  return f'{", ".join(first)} or {last}'


# One line for every setting. Sections of one kind share theirs: 'optimizer.rate' stands for
# teacher.optimizer.rate and student.optimizer.rate, 'steps' for teacher.steps and student.steps.
HELP = {
  'name': 'name of the run, and of its folder runs/NAME',
  'workdir': 'folder of the run, instead of runs/NAME; --workdir does the same',
  'seed': 'seed of everything that is drawn: weights, order of examples, data splits',
  'seeds': 'number of students to train; the report shows mean and standard error',
  'checkpoint_seconds': 'seconds between checkpoints',
  'steps_per_call': 'training steps in one compiled call; 0: chosen by their speed',
  'logs': 'number of times that a stage logs its losses',
  'scores': 'number of validations in a stage, evenly spread',
  'validate': "epochs with a validation, instead of scores: 'first,every=20,tail=0.1'",
  'profile': 'number of steps of each stage to trace for Perfetto or TensorBoard',
  'cache': "folder of XLA's compilation cache; '' switches it off",
  'data.name': 'data set: digits, cifar10, folder:DIR, csv:FILE, npz:FILE or tfds:NAME',
  'data.dir': 'folder of prepared data sets and npz files',
  'data.valid': 'number of training examples kept for validation; 0: none, all of them train',
  'data.limit': 'largest number of examples of each part; 0: all',
  'data.aux': 'data set whose inputs join the training set without labels',
  'data.split': "number of one of the data set's own splits",
  'data.stream': f'{one_of(data.loading.STREAM)}: stream training examples to the device',
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
  'network.name': one_of(nets.NETWORKS),
  'network.dtype': f'{one_of(nets.DTYPES)}, of activations',
  'network.depth': 'number of layers; of a vit: of blocks',
  'network.width': 'factor on the channels of a wide_resnet',
  'network.hidden': 'units of the hidden layers of an mlp, such as (64,64)',
  'network.channels': 'channels of the first stage; of a vit: of all',
  'network.heads': 'attention heads of a vit',
  'network.head': "flat or pooled: input of a vgg's dense layers; pooled: EnD2's authors",
  'network.patch': 'side of the patches of a vit in pixels',
  'network.norm': one_of(nets.layers.NORMS),
  'network.dropout': 'dropout rate',
  'network.init': 'fan_in or fan_out, of initial weights; default: He, LeCun in linear layers',
  'network.init_gain': 'factor g of initial weights of deviation g / sqrt(fan); default: sqrt(2)',
  'student.network.name': "network of the student; '': the teacher's",
  'steps': 'length in training steps; 0: given in epochs',
  'epochs': 'length in epochs; 0: given in steps',
  'batch_size': 'examples in a batch, over all devices',
  'keep': 'best or last: the checkpoint to keep',
  'select': 'validation score that chooses the best checkpoint, such as nll',
  'strategy': f'{one_of(("auto", *STRATEGIES))}: how networks train together',
  'variance': 'input or scalar: the variance of a regressor depends on the input or not',
  'teacher.dir': 'folder of the stored teachers; default: beside the folder of the run',
  'teacher.members': 'number of ensemble members',
  'teacher.order': 'own or shared: the order of examples of the members',
  'teacher.together': 'number of members that train together; 0: all',
  'teacher.loss': one_of(TEACHER_LOSSES),
  'student.kind': one_of(students.STUDENTS),
  'student.members': "number of student members; 0: the teacher's number",
  'student.head_stages': 'stages of the network in each head; 0: the last dense layer only',
  'student.factors': "ones or normal: initial values of a batch_ensemble's factors",
  'student.factor_std': "standard deviation of a batch_ensemble's initial factors",
  'student.bias': 'member or shared: the bias of the last layer of a batch_ensemble',
  'student.phases': '1, or 2: one head first, then all heads (Hydra)',
  'student.first_phase': 'share of the steps in the first of two phases',
  'student.targets': f'{one_of(TARGETS)}: when teacher outputs are computed',
  'student.view': 'members or averaged: the view that validation scores and the report shows',
  'optimizer.name': one_of(optim.OPTIMIZERS),
  'optimizer.rate': 'learning rate at its peak',
  'optimizer.schedule': one_of(optim.SCHEDULES),
  'optimizer.warmup': 'share of the steps in which the rate rises from zero',
  'optimizer.per_epoch': 'change the rate once per epoch instead of once per step',
  'optimizer.decay': 'weight decay',
  'optimizer.decay_on': f'{one_of(optim.DECAY_ON)}: the parameters that decay',
  'optimizer.clip': 'largest norm of the gradient; 0: not clipped',
  'optimizer.momentum': 'momentum of sgd',
  'optimizer.nesterov': 'use Nesterov momentum in sgd',
  'optimizer.factor_rate': "learning rate of a batch_ensemble's factors, relative to the rate",
  'optimizer.factor_decay': f'{one_of(optim.FACTOR_DECAY)}: the value to which the factors decay',
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
  'perturb.name': one_of(perturb.PERTURBATIONS),
  'perturb.eta': 'step per feature (root mean square) in 1/255; tables: in standard deviations',
  'perturb.temperature': "temperature of the teacher's predictions (ods, conf_ods)",
  'perturb.precision': f'matmul precision of the gradient: {one_of(perturb.PRECISIONS)}',
  'evaluate.batch_size': 'examples in a batch of the evaluation',
  'evaluate.precision': f'matmul precision: {one_of(perturb.PRECISIONS)}',
  'evaluate.ood': 'out-of-distribution sets: default, none, or names such as a,b',
  'evaluate.shift': 'corruptions of the test set: default, all, none, or names such as a,b',
  'evaluate.shift_examples': 'number of test examples that are corrupted',
  'evaluate.train': 'also evaluate every model on the training inputs, without augmentation',
}


def help_of(name: str) -> str:
  """Return the line of help of a setting such as 'teacher.optimizer.rate'."""
  while name not in HELP and '.' in name:
    name = name.partition('.')[2]
  return HELP[name]


# What other libraries call a setting.
SYNONYMS = {
  'batch': 'batch_size',
  'learning_rate': 'rate',
  'lr': 'rate',
  'weight_decay': 'decay',
  'wd': 'decay',
}


def nearest(name: str, known: Collection[str]) -> list[str]:
  """Return the settings that a wrong name may mean: none, one or two."""
  words = name.split('.')
  words[-1] = SYNONYMS.get(words[-1], words[-1])
  name = '.'.join(words)
  ending = [other for other in known if other == name or other.endswith(f'.{name}')]
  if ending and len(ending) <= 2:
    return ending
  near = names.nearest(name, known)
  return [near] if near else []


def check_fields(config) -> None:
  """Raise ValueError unless a configuration has all settings, and no other ones."""
  known, found = (identity.flatten(c.to_dict()) for c in (default(), config))
  for name in found:
    if name not in known:
      near = ' or '.join(map(repr, nearest(name, known)))
      hint = f': did you mean {near}?' if near else '.'
      raise ValueError(
        f'unknown setting {name!r}{hint} `ensdistill config --all` lists all of them.'
      )
  for name in known:
    if name not in found:
      raise ValueError(
        f'the setting {name!r} is missing: start from a recipe, such as '
        "recipes.make('kd', 'digits'), and change its settings"
      )


def apply(config, layer: Mapping[str, typing.Any]) -> None:
  """Set the settings of a layer, {name: value}, where a dict as a value sets a section.

  Where the layer names another part, the settings that this part lacks are unset.
  """
  values = identity.flatten(dict(layer))
  for name, value in values.items():
    section, _, field = name.rpartition('.')
    fields = _section(config, section)
    if field not in fields:
      raise KeyError(f'unknown setting {name!r}')
    fields[field] = value
  forget_replaced(config, values)


def _section(config, name: str):
  for word in filter(None, name.split('.')):
    config = config[word]
  return config


def optional(builders) -> dict:
  """Return the keyword settings of all builders as typed, unset fields: {name: placeholder}."""
  fields = {}
  for builder in builders.values():
    hints = typing.get_type_hints(builder)
    for name, parameter in inspect.signature(builder).parameters.items():
      if parameter.default is not parameter.empty:
        fields[name] = config_dict.placeholder(_plain_type(hints.get(name), parameter.default))
  return fields


def _plain_type(hint, default) -> type:
  """float | None -> float, tuple[int, ...] -> tuple; without a hint the default's own type."""
  if isinstance(hint, types.UnionType):
    hint = next(part for part in typing.get_args(hint) if part is not type(None))
  return typing.get_origin(hint) or hint or type(default)


def given(section, builders) -> dict:
  """Return a part's own settings that are set in its section, as keyword arguments."""
  return {k: section[k] for k in optional(builders) if section[k] is not None}


def forget_replaced(config, overridden: Collection[str]) -> None:
  """Unset a recipe's settings that a newly chosen part lacks.

  `overridden` are the names that were set after the recipe. So
  `--config.objective.name=proxy_dirichlet` works on a recipe that has a temperature. A setting in
  `overridden` stays, and is refused if the part lacks it.
  """
  for section, chooser, builders in (
    ('network', 'name', nets.NETWORKS),
    ('student.network', 'name', nets.NETWORKS),
    ('student', 'kind', students.STUDENTS),
    ('teacher.optimizer', 'name', optim.OPTIMIZERS),
    ('student.optimizer', 'name', optim.OPTIMIZERS),
    ('objective', 'name', objectives.OBJECTIVES),
    ('perturb', 'name', perturb.PERTURBATIONS),
  ):
    if f'{section}.{chooser}' not in overridden:
      continue
    fields = _section(config, section)
    chosen = {name: builders[name] for name in builders if name == fields[chooser]}
    _forget(fields, section, optional(builders).keys() - optional(chosen).keys(), overridden)
  if 'data.name' in overridden:
    with contextlib.suppress(ValueError):  # an unknown data set: loading raises the error
      known = data.sources.settings_of(config.data.name, config.data.dir)
      _forget(config.data, 'data', optional(data.CONFIGURED).keys() - known, overridden)


def _forget(fields, section: str, lacking, overridden: Collection[str]) -> None:
  for name in lacking:
    if f'{section}.{name}' not in overridden:
      fields[name] = None
