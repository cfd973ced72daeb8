"""The first lines of a run: what will happen, how long it takes, and where to look."""

import json
import pathlib
import textwrap

import jax

from ensdistill import processes
from ensdistill.config.build import Plan
from ensdistill.evaluation import sets
from ensdistill.logs import progress
from ensdistill.report.html import KINDS

WIDTH = 80
_FEW = 50  # earlier runs that are looked at
_KINDS = 4  # shifted sets that are named


def opening(plan: Plan) -> list[str]:
  """Return the first lines of a run."""
  config, dataset, devices = plan.config, plan.dataset, jax.devices()
  sizes = ' / '.join(str(len(split.y)) for split in (dataset.train, dataset.valid, dataset.test))
  shared = f' of {processes.count()} processes' if processes.shared() else ''
  first = (
    f'{config.name}: {dataset.name}, {sizes} train / validation / test examples; '
    f'{len(devices)} x {devices[0].device_kind}{shared}'
  )
  parts = {
    'teacher': _teacher(plan),
    **_students(plan),
    'evaluation': _evaluation(plan),
    'report': f'{plan.folder / "report.html"}',
    'time': _time(plan),
    'meanwhile': f'tensorboard --logdir {plan.folder / "tb"}',
  }
  if config.name.endswith('_small'):  # the variant
    parts['small'] = 'a reduced recipe: it shows that a method runs, not how good it is'
  if dataset.unused:
    parts['not used'] = dataset.unused
  width = max(map(len, parts)) + 2
  lines = [*textwrap.wrap(first, WIDTH, subsequent_indent='  ', break_on_hyphens=False)]
  for name, words in parts.items():
    indent = ' ' * (width + 2)
    start = f'  {name}'.ljust(width + 2)
    lines += textwrap.wrap(
      words,
      WIDTH,
      initial_indent=start,
      subsequent_indent=indent,
      break_on_hyphens=False,
      break_long_words=False,
    )
  return lines


def _teacher(plan: Plan) -> str:
  members = plan.config.teacher.members
  if plan.given:
    return f'{members} networks that were trained elsewhere'
  return (
    f'{members} networks ({plan.config.network.name}), {plan.teacher.steps:,} steps of '
    f'{plan.config.teacher.batch_size} examples; members in {plan.teacher_root} are reused'
  )


def _students(plan: Plan) -> dict[str, str]:
  """Return a line for each phase of the student's training."""
  config = plan.config
  seeds = f', {config.seeds} students' if config.seeds > 1 else ''
  objective = config.objective.name.replace('_', ' ')
  perturbed = config.perturb.name
  moved = '' if perturbed == 'none' else f', inputs perturbed by {perturbed}'
  found = {}
  for phase in plan.phases:
    last = phase is plan.phases[-1]
    kind = KINDS.get(config.student.kind, config.student.kind)
    what = f'{kind}, objective: {objective}{moved}{seeds}'
    words = what if last else 'the first phase'
    found[phase.name] = (
      f'{words}; {phase.method.steps:,} steps of {config.student.batch_size} examples'
    )
  return found


def _evaluation(plan: Plan) -> str:
  """Return the sets of the evaluation; there may be none by default for images of one's own."""
  section, dataset = plan.config.evaluate, plan.dataset
  parts = ['the test set']
  if foreign := sets.ood_names(dataset, section.ood):
    parts.append(f'out of distribution ({", ".join(foreign)})')
  if kinds := sets.shift_names(dataset, section.shift, plan.config.data.dir or None):
    shown = ', '.join(kinds[:_KINDS])
    more = f' and {len(kinds) - _KINDS} more' if len(kinds) > _KINDS else ''
    parts.append(f'shifted ({shown}{more})')
  return ', '.join(parts)


def _time(plan: Plan) -> str:
  """Return what is known of the time: of an earlier run of this name beside this one."""
  found = _earlier(plan.folder, plan.config.name)
  left = 'each stage shows the time that it has left'
  if found is None:
    return left
  where, seconds = found
  return f'{where} took {progress.clock(seconds)}; {left}'


def _earlier(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, float] | None:
  """Return the folder and the seconds of a finished run of this name that trained its teacher."""
  best = None
  for path in sorted(folder.parent.glob('*/results.json'))[:_FEW]:
    try:
      results = json.loads(path.read_bytes())
      timings = results['timings']
      seconds = float(sum(timings.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
      continue
    if results.get('name') == name and (best is None or seconds > best[1]):
      best = path.parent, seconds
  return best
