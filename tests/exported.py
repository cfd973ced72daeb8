"""Students of every kind without training, and inputs for them."""

import jax
import numpy as np
import tiny

from ensdistill import families, nets, objectives, students
from ensdistill.student.model import Model

NETWORKS = {
  'mlp': dict(hidden=[6, 5]),
  'resnet': dict(depth=8),
  'wide_resnet': dict(depth=10, width=1),
  'vgg': dict(depth=11, channels=4),
  'imagenet_resnet': dict(depth=50, channels=4),
  'vit': dict(patch=2, depth=2, channels=8, heads=2),
}
# (kind of student, its members, objective) of each family.
KINDS = {
  'categorical': [
    ('single', 1, 'mean'),
    ('multi_head', 3, 'members'),
    ('batch_ensemble', 3, 'members'),
    ('single', 1, 'dirichlet'),
    ('single', 1, 'proxy_dirichlet'),
    ('single', 1, 'prior_network'),
  ],
  'gaussian': [
    ('single', 1, 'mean'),
    ('multi_head', 3, 'members'),
    ('batch_ensemble', 3, 'members'),
    ('single', 1, 'normal_wishart'),
  ],
}
ALL = [(family, *rest) for family, kinds in KINDS.items() for rest in kinds]


def student(
  family='categorical',
  kind='single',
  members=1,
  objective='mean',
  network='mlp',
  *,
  shape=(8, 8, 1),
  targets=3,
  dtype='float32',
  settings=None,
  **own,
) -> Model:
  """Return a student whose every weight, scale and statistic is off its start."""
  of = families.FAMILIES[family]
  made = objectives.make(objective)
  net = {**(NETWORKS[network] if settings is None else settings)}
  backbone = nets.build(network, shape=shape, mean=[0.3], std=[0.4], **net)
  width = made.width(of, targets)
  found = students.make(kind, backbone, width, members=members, **own)
  variables = tiny.moved(found.module, jax.ShapeDtypeStruct((1, *shape), np.float32))
  is_classifier = of.has_classes
  spec = {
    'format': 1,
    'name': f'{network}-{kind}-{objective}',
    'data': 'nowhere',
    'data_settings': {'seed': 0},
    'shape': list(shape),
    'dtype': dtype,
    'classes': [f'class {i}' for i in range(targets)] if is_classifier else None,
    'family': family,
    'targets': targets,
    'target_mean': [0.0] if is_classifier else [20.0 + i for i in range(targets)],
    'target_std': [1.0] if is_classifier else [3.0 + i for i in range(targets)],
    'mean': [0.3],
    'std': [0.4],
    'network': {'name': network, 'dtype': 'float32'} | net,
    'student': {'kind': kind, 'members': members} | own,
    'objective': objective,
    'objective_settings': {},
    'inputs': inputs_of(shape, dtype),
  }
  return Model(spec, found, variables)


def inputs_of(shape, dtype) -> dict:
  """Return what a student stores of its inputs."""
  if len(shape) == 3:
    return {'columns': None, 'low': [0.0], 'high': [255.0 if dtype == 'uint8' else 1.0]}
  return {'columns': None, 'low': [-1.0] * shape[0], 'high': [2.0] * shape[0]}


def examples(model: Model, size=7, seed=0) -> np.ndarray:
  """Return random inputs that a student takes."""
  random, shape = np.random.default_rng(seed), model.spec['shape']
  if model.spec['dtype'] == 'uint8':
    return random.integers(0, 256, (size, *shape)).astype(np.uint8)
  return random.random((size, *shape), np.float32)
