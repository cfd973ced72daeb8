"""The last sections of the page: pictures, settings, versions, and commands to repeat the runs."""

import base64
import html
import json
import os
import pathlib
import shlex
from collections.abc import Iterable

from ensdistill import data
from ensdistill.report.runs import Run


def text(value: object) -> str:
  """Return a value as text for HTML."""
  return html.escape(str(value))


def appendix(runs: list[Run]) -> str:
  """Return the sections that follow the results."""
  return _pictures(runs) + _settings(runs) + _versions(runs) + _commands(runs)


def _pictures(runs: list[Run]) -> str:
  """Return all pictures: of a single run as SVG, of several runs as folded PNG."""
  parts = []
  for run in runs:
    figures = ''.join(
      _figure(run.folder / 'figures' / name, caption, vector=len(runs) == 1)
      for name, caption in run.results.get('pictures', {}).items()
    )
    if figures and len(runs) > 1:
      figures = f'<details><summary>{text(run.label)}</summary>{figures}</details>'
    parts.append(figures)
  return f'<h2>Pictures</h2>{"".join(parts)}' if any(parts) else ''


def _figure(path: pathlib.Path, caption: str, vector: bool) -> str:
  """Return one picture with its caption; `path` lacks the suffix."""
  file = path.with_suffix('.svg' if vector else '.png')
  try:
    content = base64.b64encode(file.read_bytes()).decode()
  except OSError:
    return f'<p class="note">{text(file)} is missing.</p>'
  kind = 'svg+xml' if vector else 'png'
  title = text(path.name.replace('_', ' '))
  return (
    f'<figure><h3>{title}</h3><div class="card"><img alt="{title}: {text(caption)}" '
    f'src="data:image/{kind};base64,{content}"></div><figcaption>{text(caption)}</figcaption></figure>'
  )


def _settings(runs: list[Run]) -> str:
  parts = ['<h2>Configuration</h2>']
  for run in runs:
    name = 'All settings' if len(runs) == 1 else run.label
    settings = json.dumps(run.config, indent=2, sort_keys=True)
    parts.append(f'<details><summary>{text(name)}</summary><pre>{text(settings)}</pre></details>')
  return ''.join(parts)


def _versions(runs: list[Run]) -> str:
  """Return the versions and hardware of the runs; runs with the same ones share a line."""
  groups: dict[str, list[str]] = {}
  for run in runs:
    versions = ', '.join(f'{k} {v}' for k, v in run.results.get('versions', {}).items())
    groups.setdefault(versions, []).append(run.label)
  lines = []
  for versions, labels in groups.items():
    whose = f'{", ".join(labels)}: ' if len(groups) > 1 else ''
    if versions:
      lines.append(f'<p class="note">{text(whose + versions)}</p>')
  return f'<h2>Versions</h2>{"".join(lines)}' if lines else ''


def _commands(runs: list[Run]) -> str:
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
  return f'<h2>Commands to repeat this</h2><pre>{text(chr(10).join(lines))}</pre>'


def _common(runs: Iterable[Run]) -> pathlib.Path:
  """Return the deepest folder that holds all runs."""
  return pathlib.Path(os.path.commonpath([run.folder.resolve() for run in runs]))
