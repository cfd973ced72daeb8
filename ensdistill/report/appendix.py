"""The rest of the page: pictures, settings, versions, and the commands to repeat it all."""

import base64
import html
import json
import os
import pathlib
import shlex


def text(value) -> str:
  """A value as text within a page."""
  return html.escape(str(value))


def appendix(runs) -> str:
  """All that follows the results."""
  return _pictures(runs) + _settings(runs) + _versions(runs) + _commands(runs)


def _pictures(runs) -> str:
  """Every picture of a single run as vectors; of several the bitmaps, folded away."""
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
  file = path.with_suffix('.svg' if vector else '.png')
  try:
    content = base64.b64encode(file.read_bytes()).decode()
  except OSError:
    return f'<p class="note">{text(file)} is not there.</p>'
  kind = 'svg+xml' if vector else 'png'
  title = text(path.name.replace('_', ' '))
  return (
    f'<figure><h3>{title}</h3><div class="card"><img alt="{title}: {text(caption)}" '
    f'src="data:image/{kind};base64,{content}"></div><figcaption>{text(caption)}</figcaption></figure>'
  )


def _settings(runs) -> str:
  parts = ['<h2>Configuration</h2>']
  for run in runs:
    name = 'Every setting' if len(runs) == 1 else run.label
    settings = json.dumps(run.config, indent=2, sort_keys=True)
    parts.append(f'<details><summary>{text(name)}</summary><pre>{text(settings)}</pre></details>')
  return ''.join(parts)


def _versions(runs) -> str:
  """What ran it; runs of the same versions share a line."""
  groups = {}
  for run in runs:
    versions = ', '.join(f'{k} {v}' for k, v in run.results.get('versions', {}).items())
    groups.setdefault(versions, []).append(run.label)
  whose = lambda labels: f'{", ".join(labels)}: ' if len(groups) > 1 else ''
  lines = [
    f'<p class="note">{text(whose(labels) + versions)}</p>'
    for versions, labels in groups.items()
    if versions
  ]
  return f'<h2>Versions</h2>{"".join(lines)}' if lines else ''


def _commands(runs) -> str:
  folders = [shlex.quote(str(run.folder)) for run in runs]
  lines = ['# train and evaluate again (in an empty folder)']
  lines += [run.results['command'] for run in runs if run.results.get('command')]
  if len(lines) == 1:
    lines[0] = '# the settings above, by ensdistill.run.run(ensdistill.run.prepare(config))'
  lines += ['# this page and its tables, from finished runs']
  lines += [f'python -m ensdistill.report {" ".join(folders)}']
  lines += ['# the students alone, on other data too (--data, --ood)']
  lines += [
    f'python -m ensdistill.evaluate --student={shlex.quote(str(run.folder / "student"))}'
    for run in runs
  ]
  logs = folders[0] if len(folders) == 1 else shlex.quote(str(_common(runs)))
  lines += ['# curves, pictures and hyper-parameters', f'tensorboard --logdir {logs}']
  return f'<h2>To repeat it</h2><pre>{text(chr(10).join(lines))}</pre>'


def _common(runs) -> pathlib.Path:
  return pathlib.Path(os.path.commonpath([run.folder.resolve() for run in runs]))
