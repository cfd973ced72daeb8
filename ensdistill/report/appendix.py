"""What the page shows beside the results: pictures, settings, versions, commands to repeat it."""

import base64
import json
import os
import pathlib
import shlex
from collections.abc import Iterable

from ensdistill import data
from ensdistill.report.runs import Run

_TITLES = {'cost': 'quality against cost', 'pit': 'positions of the targets (PIT)'}


def about(runs: list[Run]) -> dict:
  """Return the values of the last sections of the page."""
  return {
    'configurations': [
      ('All settings' if len(runs) == 1 else run.label, _json(run.config)) for run in runs
    ],
    'versions': _versions(runs),
    'commands': '\n'.join(_commands(runs)),
  }


def _json(config: dict) -> str:
  return json.dumps(config, indent=2, sort_keys=True)


def pictures(run: Run) -> list[dict]:
  """Return the pictures of a run, with those for a phone where the run has them."""
  found = []
  for name, caption in run.results.get('pictures', {}).items():
    path = run.folder / 'figures' / name
    try:
      content = path.with_suffix('.svg').read_bytes()
    except OSError:
      found.append({'missing': str(path.with_suffix('.svg'))})
      continue
    for_phones = path.with_name(f'{name}-narrow.svg')
    small = for_phones.read_bytes() if for_phones.exists() else None
    found.append(drawn(name, caption, content, small))
  return found


def drawn(name: str, caption: str, wide: bytes, narrow: bytes | None = None) -> dict:
  """Return a picture as the page shows it, from SVG."""
  return {
    'missing': None,
    'title': _TITLES.get(name, name.replace('_', ' ')),
    'caption': caption,
    'source': _uri(wide),
    'narrow': _uri(narrow) if narrow else None,
  }


def _uri(svg: bytes) -> str:
  return f'data:image/svg+xml;base64,{base64.b64encode(svg).decode()}'


def _versions(runs: list[Run]) -> list[str]:
  """Return the versions and hardware of the runs; runs with the same ones share a line."""
  groups: dict[str, list[str]] = {}
  for run in runs:
    versions = ', '.join(f'{k} {v}' for k, v in run.results.get('versions', {}).items())
    groups.setdefault(versions, []).append(run.label)
  lines = []
  for versions, labels in groups.items():
    whose = f'{", ".join(labels)}: ' if len(groups) > 1 else ''
    if versions:
      lines.append(whose + versions)
  return lines


def _commands(runs: list[Run]) -> list[str]:
  """Return the commands that repeat the runs and their reports.

  Students of arrays come from `ensdistill.distil`: no command trains them again.
  """
  folders = [shlex.quote(str(run.folder)) for run in runs]
  trained = [run for run in runs if not run.config['data']['name'].startswith(data.ARRAYS)]
  lines = []
  if trained:
    commands = [run.results['command'] for run in trained if run.results.get('command')]
    lines = ['# train and evaluate again (in an empty folder)', *commands]
    if not commands:
      lines = ['# the settings above: ensdistill.run.run(ensdistill.run.prepare(config))']
  lines += ['# write this page and its tables again, from the finished runs']
  lines += [f'python -m ensdistill.report {" ".join(folders)}']
  lines += ['# evaluate the students alone, also on other data (--data, --ood)']
  lines += [
    f'python -m ensdistill.evaluate --student={shlex.quote(str(run.folder / "student"))}'
    + ('' if run in trained else ' --data=NAME')
    for run in runs
  ]
  if trained:
    logs = folders[0] if len(folders) == 1 else shlex.quote(str(_common(runs)))
    lines += ['# show curves, pictures and hyper-parameters', f'tensorboard --logdir {logs}']
  return lines


def _common(runs: Iterable[Run]) -> pathlib.Path:
  """Return the deepest folder that holds all runs."""
  return pathlib.Path(os.path.commonpath([run.folder.resolve() for run in runs]))
