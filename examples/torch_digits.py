"""Distil an ensemble of PyTorch modules on the digits.

python examples/torch_digits.py
ensdistill train hydra_digits --config.teacher.outputs=torch.npz --workdir=runs/torch
"""

import torch

from ensdistill import data, teachers


def member(x, y, seed: int, steps: int = 100):
  torch.manual_seed(seed)
  layers = torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
  model = torch.nn.Sequential(*layers)
  optimizer = torch.optim.Adam(model.parameters(), 1e-2)
  for _ in range(steps):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
  return model


def main() -> None:
  parts = data.parts('digits')
  x, y = (torch.as_tensor(array[:600]) for array in parts['train'])  # 200 are for validation
  models = [member(x, y.long(), seed) for seed in range(4)]
  outputs = {part: teachers.from_torch(models, inputs) for part, (inputs, _) in parts.items()}
  teachers.save('torch.npz', **outputs)


if __name__ == '__main__':
  main()
