"""The recipes: per data set, per method, and where a paper has its own for the pair of them.

A config file names a method and a data set. `make` lays, one over the other: the package's
defaults, the data set's recipe, the method's, the pair's, and the variant's ('small' finishes
within minutes on two CPU cores; 'paper' is a paper's own network, and its schedule where that is
known). A layer that names another network or optimiser drops what the old one's settings were.
"""

from ensdistill.config import checks, identity, settings


def make(method: str, dataset: str, variant: str = ''):
  """The configuration of a method on a data set, in a variant."""
  checks.one_of('method', method, METHODS)
  checks.one_of('recipe', dataset, DATA)
  checks.one_of('variant', variant, ('', 'small', 'paper'))
  config = settings.default()
  config.name = '_'.join(filter(None, (method, dataset, variant)))
  layers = [DATA[dataset], METHODS[method], PAIRS.get((method, dataset), {})]
  if variant == 'small':
    layers.append(SMALL[dataset])
  if variant == 'paper':
    checks.one_of("method with a 'paper' variant", f'{method}_{dataset}', PAPER)
    layers.append(PAPER[f'{method}_{dataset}'])
  for layer in layers:
    config.update(layer)
    settings.forget_replaced(config, identity.flatten(layer))
  if variant == 'small':
    config.network.update(SMALL_NETWORKS.get(config.network.name, {}))
  return config


_SGD = dict(name='sgd', rate=0.1, momentum=0.9, nesterov=True, decay=5e-4, warmup=0.025)
_ADAM = dict(name='adam', rate=5e-3, decay=0.0)
_ADAMW = dict(name='adamw', rate=5e-3, decay=0.3)
_DECAYED = dict(_ADAMW, decay=3.0)
_LARGE_SGD = dict(_SGD, decay=1e-4, warmup=5 / 90)

DATA = dict(
  digits=dict(
    data=dict(name='digits'),
    network=dict(name='resnet', depth=8),
    teacher=dict(steps=150, batch_size=64, optimizer=_SGD),
    student=dict(steps=250, batch_size=64, optimizer=_SGD),
  ),
  spirals=dict(
    data=dict(name='spirals'),
    network=dict(name='mlp', hidden=(64, 64, 64, 64)),
    teacher=dict(
      steps=1500, batch_size=128, members=100, optimizer=dict(name='adam', rate=2e-3, decay=0.0)
    ),
    student=dict(
      targets='auto', steps=6000, batch_size=128, optimizer=dict(name='adam', rate=2e-3, decay=0.0)
    ),
  ),
  toy1d=dict(
    data=dict(name='toy1d'),
    network=dict(name='mlp', hidden=(64, 64)),
    teacher=dict(steps=2000, batch_size=50, members=20, optimizer=_ADAM),
    student=dict(targets='auto', steps=4000, batch_size=50, optimizer=_ADAM),
  ),
  # Noisy targets: a network on labels needs ten times the decay of one that learns from members.
  diabetes=dict(
    data=dict(name='diabetes'),
    network=dict(name='mlp', hidden=(64, 64)),
    teacher=dict(steps=1000, batch_size=50, members=20, optimizer=_DECAYED),
    student=dict(targets='auto', steps=2000, batch_size=50, optimizer=_ADAMW),
  ),
  # A few hundred rows: without the decay a member's variance has collapsed after a few epochs.
  uci=dict(
    data=dict(name='boston'),
    network=dict(name='mlp', hidden=(100, 100)),
    teacher=dict(steps=1500, batch_size=50, members=20, optimizer=_ADAMW),
    student=dict(targets='auto', steps=2500, batch_size=50, optimizer=_ADAMW),
  ),
  mnist=dict(
    data=dict(name='mnist'),
    network=dict(name='resnet', depth=8),
    augment=dict(crop=2),
    teacher=dict(epochs=20, batch_size=128, optimizer=_SGD),
    student=dict(epochs=30, batch_size=128, optimizer=_SGD),
  ),
  fashion_mnist=dict(
    data=dict(name='fashion_mnist'),
    network=dict(name='resnet', depth=20),
    augment=dict(crop=2, flip=True),
    teacher=dict(epochs=40, batch_size=128, optimizer=_SGD),
    student=dict(epochs=60, batch_size=128, optimizer=_SGD),
  ),
  cifar10=dict(
    data=dict(name='cifar10'),
    network=dict(name='wide_resnet', depth=28, width=1),
    augment=dict(crop=4, flip=True),
    teacher=dict(epochs=200, batch_size=128, optimizer=_SGD),
    student=dict(epochs=200, batch_size=128, optimizer=_SGD),
  ),
  cifar100=dict(
    data=dict(name='cifar100'),
    network=dict(name='wide_resnet', depth=28, width=4),
    augment=dict(crop=4, flip=True),
    teacher=dict(epochs=200, batch_size=128, optimizer=_SGD),
    student=dict(epochs=200, batch_size=128, optimizer=_SGD),
  ),
  tiny_imagenet=dict(
    data=dict(name='folder:tiny-imagenet-200', size=64),
    network=dict(name='wide_resnet', depth=28, width=4),
    augment=dict(crop=8, flip=True),
    teacher=dict(epochs=100, batch_size=128, optimizer=_SGD),
    student=dict(epochs=100, batch_size=128, optimizer=_SGD),
  ),
  # A folder with train/ and val/, or --config.data.name=tfds:imagenet2012. Members share the order
  # of examples, so that an image is decoded once for all of them.
  imagenet=dict(
    data=dict(name='folder:imagenet', size=224, central=0.875),
    network=dict(name='imagenet_resnet', depth=50),
    augment=dict(crop_area=0.08, flip=True),
    teacher=dict(epochs=90, batch_size=256, order='shared', optimizer=_LARGE_SGD),
    student=dict(epochs=90, batch_size=256, optimizer=_LARGE_SGD),
  ),
)

_BE = dict(kind='batch_ensemble', factors='normal', bias='member')
_BE_OPTIMIZER = dict(factor_rate=0.5, factor_decay='none')
_LATENT = dict(
  kind='batch_ensemble',
  factors='ones',
  bias='shared',
  view='averaged',
  select='acc',
  optimizer=dict(factor_decay='one', factor_scale='members'),
)
_ONE_CYCLE = dict(name='adam', rate=1e-2, schedule='one_cycle', warmup=0.0, decay=0.0, clip=10.0)
# EnD²'s targets are the teacher's outputs on clean images, while the student sees augmented ones.
_PRIOR = dict(kind='single', targets='clean_cache', optimizer=_ONE_CYCLE)

METHODS = dict(
  # Controls: no teacher.
  single=dict(student=dict(kind='single'), objective=dict(name='none', label_weight=1.0)),
  be=dict(
    student=dict(_BE, optimizer=_BE_OPTIMIZER), objective=dict(name='none', label_weight=1.0)
  ),
  multi_head=dict(student=dict(kind='multi_head'), objective=dict(name='none', label_weight=1.0)),
  # Its loss starts in the hundreds, with gradients to match: Adam, as for EnD².
  pn=dict(
    student=dict(kind='single', select='acc', optimizer=_ONE_CYCLE),
    objective=dict(name='prior_network', label_weight=1.0),
  ),
  # Distillation to the ensemble's mean.
  kd=dict(student=dict(kind='single'), objective=dict(name='mean', temperature=4.0)),
  kd_gaussian=dict(
    student=dict(kind='single'),
    objective=dict(name='mean', temperature=4.0),
    perturb=dict(name='gaussian'),
  ),
  # Hydra.
  hydra=dict(
    student=dict(kind='multi_head', phases=2, first_phase=0.5, head_stages=1),
    objective=dict(name='members', temperature=4.0),
  ),
  hydra_gaussian=dict(
    student=dict(kind='multi_head', phases=2, first_phase=0.5, head_stages=1),
    objective=dict(name='members', temperature=4.0),
    perturb=dict(name='gaussian'),
  ),
  hydra_confods=dict(
    student=dict(kind='multi_head', head_stages=1),
    objective=dict(name='members', temperature=4.0),
    perturb=dict(name='conf_ods', temperature=4.0),
  ),
  # EnD² and Proxy-EnD².
  end2=dict(student=dict(kind='single', optimizer=_ONE_CYCLE), objective=dict(name='dirichlet')),
  end2_aux=dict(student=_PRIOR, objective=dict(name='dirichlet')),
  end2_tdiv=dict(
    student=dict(kind='single', optimizer=_ONE_CYCLE),
    objective=dict(name='dirichlet'),
    perturb=dict(name='tdiv'),
  ),
  # The authors' image code has the forward form; on members that nearly agree its loss is dominated
  # by the few examples with the largest target precision, and short runs fail.
  end2_proxy=dict(student=_PRIOR, objective=dict(name='proxy_dirichlet', form='reverse')),
  # The same for regression: a Normal-Wishart over the members' Gaussians.
  nw=dict(student=dict(kind='single'), objective=dict(name='normal_wishart')),
  nw_gaussian=dict(
    student=dict(kind='single'),
    objective=dict(name='normal_wishart'),
    perturb=dict(name='gaussian'),
  ),
  # Diversity Matters.
  be_kd=dict(
    student=dict(_BE, optimizer=_BE_OPTIMIZER),
    objective=dict(name='members', label_weight=0.1, temperature=4.0),
  ),
  be_gaussian=dict(
    student=dict(_BE, optimizer=_BE_OPTIMIZER),
    objective=dict(name='members', label_weight=0.1, temperature=4.0),
    perturb=dict(name='gaussian'),
  ),
  be_ods=dict(
    student=dict(_BE, optimizer=_BE_OPTIMIZER),
    objective=dict(name='members', label_weight=0.1, temperature=4.0),
    perturb=dict(name='ods', temperature=4.0),
  ),
  be_confods=dict(
    student=dict(_BE, optimizer=_BE_OPTIMIZER),
    objective=dict(name='members', label_weight=0.1, temperature=4.0),
    perturb=dict(name='conf_ods', temperature=4.0),
  ),
  # LatentBE.
  latentbe=dict(student=_LATENT, objective=dict(name='members', temperature=4.0)),
  latentbe_tdiv_sdiv=dict(
    student=_LATENT,
    objective=dict(name='members', temperature=4.0, labels_on='perturbed'),
    perturb=dict(name='tdiv_sdiv'),
  ),
)

# Paper 3 distils at T = 1 on CIFAR-100 (and at 4 on CIFAR-10, the methods' default here).
_T1 = dict(objective=dict(temperature=1.0))
_T1_PERTURBED = dict(_T1, perturb=dict(temperature=1.0))
# Auxiliary inputs (EnD²+AUX and the Prior Network): another set's training split.
_AUX = {'digits': 'photographs', 'cifar10': 'cifar100', 'cifar100': 'cifar10'}
_aux = lambda name: dict(data=dict(aux=_AUX[name]))
# Regression matches densities as they are, by the teacher alone, and heads are dense layers: one
# more hidden layer a head would be most of the ensemble again.
_DENSE_HEADS = dict(_T1, student=dict(head_stages=0))
_TEACHER_ALONE = dict(objective=dict(temperature=1.0, label_weight=0.0))
_REGRESSION = dict(
  kd=_T1,
  kd_gaussian=_T1,
  hydra=_DENSE_HEADS,
  hydra_gaussian=_DENSE_HEADS,
  be_kd=_TEACHER_ALONE,
  be_gaussian=_TEACHER_ALONE,
)
# EnD² on CIFAR: VGG-16, dropout, augmentation, and Adam on one cycle for the ensemble too.
_VGG = dict(
  network=dict(name='vgg', depth=16, dropout=0.5),
  augment=dict(crop=4, pad='reflect', rotate=15.0, flip=True),
  teacher=dict(epochs=45, optimizer=dict(_ONE_CYCLE, clip=0.0)),
  student=dict(epochs=90, network=dict(dropout=0.3), optimizer=_ONE_CYCLE),
)
_VGG_CACHED = dict(_VGG, student=dict(_VGG['student'], targets='clean_cache'))
_CACHED = dict(student=dict(targets='clean_cache'))
_ON_CIFAR = dict(
  end2=_VGG_CACHED, end2_aux=_VGG_CACHED, end2_proxy=_VGG_CACHED, end2_tdiv=_VGG, pn=_VGG
)
# A BatchEnsemble of four, with one set of weights between them, wants more steps than one network.
_BATCH_ENSEMBLES = (
  'be', 'be_kd', 'be_gaussian', 'be_ods', 'be_confods', 'latentbe', 'latentbe_tdiv_sdiv'
)  # fmt: skip
PAIRS = (
  {
    ('end2_aux', 'digits'): _aux('digits') | dict(student=dict(steps=500)),
    ('pn', 'digits'): _aux('digits'),
    # As long as nothing changes the inputs the ensemble speaks once.
    ('kd', 'digits'): dict(student=dict(targets='auto')),
  }
  | {
    (method, name): changes | (_aux(name) if method in ('end2_aux', 'pn') else {})
    for method, changes in _ON_CIFAR.items()
    for name in ('cifar10', 'cifar100')
  }
  | {('end2', name): _CACHED for name in ('mnist', 'fashion_mnist', 'tiny_imagenet')}
  | {
    (method, name): changes
    for method, changes in _REGRESSION.items()
    for name in ('toy1d', 'diabetes', 'uci')
  }
  | {(method, 'digits'): dict(student=dict(steps=500)) for method in _BATCH_ENSEMBLES}
  | {
    ('single', 'diabetes'): dict(student=dict(optimizer=_DECAYED)),
    ('be_kd', 'cifar100'): _T1,
    ('be_gaussian', 'cifar100'): _T1,
    ('be_ods', 'cifar100'): _T1_PERTURBED,
    ('be_confods', 'cifar100'): _T1_PERTURBED,
  }
)

# Within minutes on two CPU cores; the numbers show that it runs, not what the method is worth.
_SMALL_IMAGES = dict(
  data=dict(limit=4000),
  teacher=dict(steps=200, epochs=0, batch_size=64),
  student=dict(steps=200, epochs=0, batch_size=64),
  evaluate=dict(batch_size=250, shift_examples=100),
  scores=5,
)
SMALL = dict(
  digits=dict(teacher=dict(steps=50), student=dict(steps=50), scores=5),
  spirals=dict(teacher=dict(steps=300, members=20), student=dict(steps=500), scores=5),
  toy1d=dict(teacher=dict(steps=200, members=5), student=dict(steps=400), scores=5),
  diabetes=dict(teacher=dict(steps=200, members=5), student=dict(steps=400), scores=5),
  uci=dict(teacher=dict(steps=500, members=10), student=dict(steps=1000), scores=5),
  mnist=_SMALL_IMAGES,
  fashion_mnist=_SMALL_IMAGES,
  cifar10=_SMALL_IMAGES,
  cifar100=_SMALL_IMAGES,
  tiny_imagenet=_SMALL_IMAGES,
  imagenet=dict(
    _SMALL_IMAGES,
    teacher=dict(steps=20, epochs=0, batch_size=32, members=2),
    student=dict(steps=20, epochs=0, batch_size=32),
    evaluate=dict(batch_size=100, shift='none'),
    scores=1,
  ),
)
SMALL_NETWORKS = dict(
  resnet=dict(depth=8),
  wide_resnet=dict(depth=10, width=1),
  vgg=dict(depth=11, channels=8),
  imagenet_resnet=dict(channels=8),
)

# Diversity Matters on CIFAR-100: WRN-28-10, 300 epochs.
_STEP_LINEAR = dict(schedule='step_linear', warmup=5 / 300, nesterov=False)
_DIVERSITY_MATTERS = dict(
  network=dict(depth=28, width=10),
  teacher=dict(epochs=300, batch_size=256, select='acc', optimizer=dict(_STEP_LINEAR, rate=0.2)),
  student=dict(
    epochs=300, batch_size=64, select='member_acc', optimizer=dict(_STEP_LINEAR, rate=0.05)
  ),
)
# Hydra on CIFAR-10: ResNet-20, heads of one block, 50 members; its schedule is not known.
_HYDRA = dict(network=dict(name='resnet', depth=20), teacher=dict(members=50, together=10))
# EnD² on CIFAR: the recipe above, for an ensemble of 100.
_END2 = dict(teacher=dict(members=100, together=10))
# LatentBE on CIFAR-100: WRN-28-4, an ensemble of 4, 200 epochs.
_LATENTBE = dict(
  network=dict(depth=28, width=4), teacher=dict(members=4, epochs=200), student=dict(epochs=200)
)
# Hydra's UCI protocol as a later paper ran it: 50 teachers of one variance each, by least squares,
# and students of one hidden layer.
_HYDRA_UCI = dict(
  teacher=dict(members=50, loss='least_squares', variance='scalar'),
  student=dict(network=dict(hidden=(50,))),
)
PAPER = dict(
  hydra_uci=_HYDRA_UCI,
  be_kd_uci=_HYDRA_UCI,
  hydra_cifar10=_HYDRA,
  end2_cifar10=_END2,
  end2_cifar100=_END2,
  end2_aux_cifar10=_END2,
  end2_aux_cifar100=_END2,
  latentbe_cifar100=_LATENTBE,
  latentbe_tdiv_sdiv_cifar100=_LATENTBE,
  be_kd_cifar100=_DIVERSITY_MATTERS,
  be_gaussian_cifar100=_DIVERSITY_MATTERS,
  be_ods_cifar100=_DIVERSITY_MATTERS,
  be_confods_cifar100=_DIVERSITY_MATTERS,
)
