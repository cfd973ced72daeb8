"""What a run says about an ensemble that was trained elsewhere."""

from collections.abc import Sequence

from ensdistill.config.build import Plan


def about_outputs(plan: Plan) -> str:
  """Return the lines about stored outputs: which parts they cover, and their agreement."""
  ensemble = plan.given
  text = (
    f'teacher: outputs of {ensemble.size} members from {ensemble.where}, '
    f'student.targets={plan.config.student.targets}'
  )
  parts = [f'{part} {_values(values)}' for part, values in ensemble.agreement.items()]
  if parts:
    measure = 'accuracy' if plan.teacher.family.has_classes else 'correlation'
    text = f'{text}; {measure} of each member: {"; ".join(parts)}'
  lines = [text, *(f'teacher: {name} is not evaluated' for name in ensemble.unused)]
  if ensemble.doubt:
    lines.append(f'teacher: warning: {ensemble.doubt}')
  return '\n'.join(lines)


def _values(values: Sequence[float]) -> str:
  """Return a few values one by one, and many as their range."""
  if len(values) <= 5:
    return ', '.join(f'{value:.3f}' for value in values)
  return f'{min(values):.3f} to {max(values):.3f}'
