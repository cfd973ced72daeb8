"""A custom student: a single network that returns its outputs divided by a learned scale.

ensdistill train kd_digits:small --import=examples/own_student.py --config.student.kind=scaled
"""

import flax.linen as nn

from ensdistill import nets, students


class Scaled(nn.Module):
  backbone: nets.Backbone
  outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    x = self.backbone.normalise(x)
    logits_BO = self.backbone.run(x, train, self.backbone.stages, self.outputs)
    return (logits_BO * self.param('scale', nn.initializers.ones, (1, 1)))[:, None]


def scaled(backbone, outputs, members):
  return students.Student('scaled', Scaled(backbone, outputs), 1)


students.STUDENTS['scaled'] = scaled
