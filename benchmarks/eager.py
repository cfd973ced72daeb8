"""The steps of steps.py in eager PyTorch: the same mathematics from the same variables.

  PYTHON -m benchmarks.eager FOLDER      serves the problem that `problems.for_eager` stored there

PYTHON needs torch and numpy alone, so PyTorch runs on the Python that it supports.

As in our step, only the members that a perturbation needs are computed and differentiated. Networks
are functions of our parameter trees, with kernels [O, I, H, W] and images [B, C, H, W]. The members
of a batch ensemble are folded into the batch, [M B, C, H, W].
"""

import itertools
import json
import math
import pathlib
import platform
import sys
import types
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F


class Network:
  """Compute one of our residual networks: (variables, x) -> logits [M, B, K]."""

  def __init__(self, spec, exact: bool):
    self.stages, self.dtype = spec.stages, getattr(torch, spec.dtype)
    self.mean, self.std = spec.mean, spec.std
    self.block = {'wide_resnet': self.before, 'resnet': self.after}[spec.network]
    self.exact = exact  # XLA's uneven padding of strided convolutions

  def __call__(self, variables, x, train=False, index=None):
    """Return the logits, of the members in `index` only if it is given."""
    params, stats = variables['params'], variables['batch_stats']
    self.train, self.index = train, index
    self.size = len(self.chosen(params['head']['r'])) if 'r' in params['head'] else 1
    with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
      x = ((x - self.mean) / self.std).repeat(self.size, 1, 1, 1)
      for name in self.stages:
        x = self.stage(name, params[name], stats.get(name), x)
    return self.dense(params['head'], x.float().mean((2, 3))).unflatten(0, (self.size, -1))

  def stage(self, name, p, stats, x):
    if name != 'stem':
      return self.block(p, stats, x, 2 if name in ('stage1_block0', 'stage2_block0') else 1)
    x = self.conv(p['conv'], x)
    return F.relu(self.norm('norm', p, stats, x)) if 'norm' in p else x

  def before(self, p, stats, x, stride):
    """Compute a block with its norms before the convolutions."""
    y = self.conv(p['conv1'], F.relu(self.norm('norm1', p, stats, x)), stride)
    y = self.conv(p['conv2'], F.relu(self.norm('norm2', p, stats, y)))
    x = y + (self.conv(p['shortcut'], x, stride) if 'shortcut' in p else x)
    return F.relu(self.norm('norm_out', p, stats, x)) if 'norm_out' in p else x

  def after(self, p, stats, x, stride):
    """Compute a block with its norms after the convolutions."""
    y = F.relu(self.norm('norm1', p, stats, self.conv(p['conv1'], x, stride)))
    y = self.norm('norm2', p, stats, self.conv(p['conv2'], y))
    if 'shortcut' in p:
      x = self.norm('shortcut_norm', p, stats, self.conv(p['shortcut'], x, stride))
    return F.relu(x + y)

  def norm(self, name, p, stats, x):
    p, stats = p[name], stats[name]
    running = stats['mean'], stats['var']  # updated in place in training
    return F.batch_norm(x, *running, p['scale'], p['bias'], self.train, 0.1, 1e-5)

  def conv(self, p, x, stride=1):
    padding = p['kernel'].shape[-1] // 2
    x = self.times(p, 'r', x)
    if self.exact and stride == 2 and padding:
      x, padding = F.pad(x, (0, 1, 0, 1)), 0
    return self.times(p, 's', F.conv2d(x, p['kernel'], stride=stride, padding=padding))

  def dense(self, p, x):
    y = self.times(p, 'r', x) @ p['kernel']
    y = self.times(p, 's', y + p['bias'] if 'bias' in p else y)
    own = self.chosen(p['b']) if 'b' in p else None
    return y if own is None else (y.unflatten(0, (self.size, -1)) + own[:, None]).flatten(0, 1)

  def times(self, p, name, x):
    """Multiply the channels of each member by its factors, if there are any."""
    if name not in p:
      return x
    factors = self.chosen(p[name]).reshape(self.size, 1, -1, *[1] * (x.ndim - 2))
    return (x.unflatten(0, (self.size, -1)) * factors).flatten(0, 1)

  def chosen(self, leaf):
    return leaf if self.index is None else leaf[self.index]


class Step:
  """Train one network; step(x [B, C, H, W], y) -> loss."""

  def __init__(self, spec: dict, variables, teachers, device, last=False, exact=False):
    """spec: see `problems.eager_spec`; variables and teachers are nested dicts of arrays."""
    self.spec = types.SimpleNamespace(**spec)
    self.student = self.teacher = Network(self.spec, exact)
    self.variables = tensors(variables, device, last)
    self.teachers = [tensors(one, device, last) for one in teachers]
    self.section = types.SimpleNamespace(**self.spec.optimizer)
    self.factors: list[torch.Tensor] = []
    shared: list[torch.Tensor] = []
    for path, leaf in flat(self.variables['params']).items():
      is_factor = path in self.spec.factors
      (self.factors if is_factor else shared).append(leaf.requires_grad_())
    groups = [dict(params=shared, weight_decay=self.section.decay)]
    if self.factors:
      groups.append(dict(params=self.factors, lr=self.section.rate * self.section.factor_rate))
    momentum = dict(momentum=self.section.momentum, nesterov=self.section.nesterov)
    self.optimizer = torch.optim.SGD(groups, lr=self.section.rate, **momentum)

  def __call__(self, x, y, drawn=None):
    """Take one step. `drawn` fixes the random pair of members, or the member and its direction."""
    clean = x
    if self.spec.perturbation:
      x = self.perturbed(x, drawn)
    loss: Any = 0.0

    def student(x):
      return self.student(self.variables, x, True)

    weight = self.spec.label_weight
    if self.teachers:
      with torch.no_grad():
        targets = torch.cat([self.teacher(v, x) for v in self.teachers])
      outputs = student(x)
      if self.spec.objective == 'mean':
        targets = self.mixture(targets)
      loss = (1 - weight) * self.kl(targets, outputs, self.spec.temperature).mean()
    if weight:
      outputs = student(clean)
      loss = loss + weight * F.cross_entropy(outputs.flatten(0, 1), y.repeat(len(outputs)))
    self.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    self.scale_factors()
    self.optimizer.step()
    return loss.detach()

  def scale_factors(self):
    """Scale the gradients of the factors by the number of members, and let factors decay to one."""
    for factor in self.factors:
      if self.section.factor_scale == 'members':
        factor.grad.mul_(self.spec.members)
      if self.section.factor_decay == 'one':
        factor.grad.add_(factor.detach() - 1, alpha=self.section.decay)

  def mixture(self, outputs):
    t = self.spec.temperature
    return t * (F.log_softmax(outputs / t, -1).logsumexp(0, keepdim=True) - math.log(len(outputs)))

  @staticmethod
  def kl(p_outputs, q_outputs, t=1.0):
    log_p, log_q = F.log_softmax(p_outputs / t, -1), F.log_softmax(q_outputs / t, -1)
    return t * t * (log_p.exp() * (log_p - log_q)).sum(-1)

  def perturbed(self, x, drawn):
    x = x.detach().requires_grad_()
    if self.spec.perturbation == 'tdiv_sdiv':
      i, j = drawn or torch.randperm(self.spec.members)[:2].tolist()

      def teacher(m):
        return self.teacher(self.teachers[m], x)

      def student(m):
        return self.student(self.variables, x, index=[m])

      gain = self.divergence(teacher, i, j) - self.divergence(student, i, j)
      (gradient,) = torch.autograd.grad(gain, x)
      confidence = 1.0
    else:
      one, direction = drawn or (torch.randint(self.spec.members, ()).item(), None)
      probs = F.softmax(self.teacher(self.teachers[one], x)[0] / self.spec.soften, -1)
      direction = torch.rand_like(probs) * 2 - 1 if direction is None else direction
      (gradient,) = torch.autograd.grad((direction * probs).sum(), x)
      confidence = probs.detach().max(1)[0].reshape(-1, 1, 1, 1)
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
    step = x[0].numel() ** 0.5 / 255 * confidence * gradient / norm
    return (x.detach() + step).clamp(0, 1)

  def divergence(self, network, i, j):
    with torch.no_grad():
      held = network(j)
    return self.kl(held, network(i)).sum()


def tensors(tree, device, last=False):
  """Return our variables as tensors; `last` stores kernels with channels last."""

  def tensor(leaf):
    value = torch.tensor(np.asarray(leaf), device=device)
    if value.ndim < 4:
      return value
    layout = torch.channels_last if last else torch.contiguous_format
    return value.permute(3, 2, 0, 1).contiguous(memory_format=layout)

  return nested({path: tensor(leaf) for path, leaf in flat(tree).items()})


def flat(tree, prefix: str = '') -> dict:
  """Return {'a/b': leaf} of a nested dict."""
  found: dict = {}
  for name, value in tree.items():
    inner = isinstance(value, dict)
    found |= flat(value, f'{prefix}{name}/') if inner else {prefix + name: value}
  return found


def nested(leaves: dict) -> dict:
  """Return the nested dict of {'a/b': leaf}."""
  tree: dict = {}
  for path, leaf in leaves.items():
    *folders, name = path.split('/')
    within = tree
    for folder in folders:
      within = within.setdefault(folder, {})
    within[name] = leaf
  return tree


def images(x, device, last=False):
  """Convert uint8 or float images [B, H, W, C] to a float tensor [B, C, H, W]."""
  value = torch.tensor(np.asarray(x), device=device).permute(0, 3, 1, 2)
  value = value.float() / 255 if value.dtype == torch.uint8 else value
  return value.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def contender(spec, networks, teachers, x, y, device: str, last: bool):
  """Return run(n): n steps of each network on batches that already are on the device."""
  steps = [Step(spec, variables, teachers, device, last) for variables in networks]
  size = spec['batch']
  batches = itertools.cycle(
    (
      images(x[at : at + size], device, last),
      torch.tensor(y[at : at + size], device=device).long(),
    )
    for at in range(0, len(x) - size + 1, size)
  )

  def run(n):
    for _ in range(n):
      batch = next(batches)
      for step in steps:
        step(*batch)
    if device == 'cuda':
      torch.cuda.synchronize()

  return run


def load(folder: pathlib.Path):
  """Return spec, networks, teachers, x and y that `problems.for_eager` stored."""
  spec = json.loads((folder / 'spec.json').read_text())
  with np.load(folder / 'arrays.npz') as arrays:
    stored = dict(arrays)

  def trees(kind):
    leaves = {k.removeprefix(kind): v for k, v in stored.items() if k.startswith(kind)}
    size = len(next(iter(leaves.values()))) if leaves else 0
    return [nested({path: leaf[i] for path, leaf in leaves.items()}) for i in range(size)]

  return spec, trees('networks/'), trees('teachers/'), stored['x'], stored['y']


def serve(folder: pathlib.Path) -> None:
  """Answer lines 'NAME COUNT' on the standard input, each when that contender has taken its steps.

  The first answer is the JSON of the versions, and of the names of the contenders.
  """
  spec, networks, teachers, x, y = load(folder)
  device = spec['device']
  names = {'torch': False, 'torch_last': True}
  if device == 'cuda' and not torch.cuda.is_available():
    names = {}
  torch.backends.cudnn.benchmark = True
  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # like JAX
  runs = {
    name: contender(spec, networks, teachers, x, y, device, last) for name, last in names.items()
  }
  versions = {'torch': torch.__version__, 'python of torch': platform.python_version()}
  print(json.dumps({'versions': versions, 'contenders': list(runs)}), flush=True)
  for line in sys.stdin:
    name, count = line.split()
    runs[name](int(count))
    print('done', flush=True)


if __name__ == '__main__':
  serve(pathlib.Path(sys.argv[1]))
