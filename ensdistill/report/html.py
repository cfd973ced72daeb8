"""report.html: one self-contained page over one run or many, with no script and no request."""

import base64
import html
import json
import pathlib
import shlex

from ensdistill.report import columns as columns_lib
from ensdistill.report import page_style, tables, verdict
from ensdistill.report import runs as runs_lib

LOW, HIGH = -0.25, 1.25  # of the gap bars
_KINDS = {
  'single': 'a single network',
  'multi_head': 'a network of many heads',
  'batch_ensemble': 'a batch ensemble',
}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(runs: list[runs_lib.Run]) -> str:
  """The whole page; several runs are compared, group by group of the same data."""
  title = runs[0].label if len(runs) == 1 else f'{len(runs)} runs compared'
  body = [f'<h1>{_text(title)}</h1>']
  for name, group in runs_lib.by_data(runs).items():
    body.append(_one(group[0]) if len(group) == 1 else _several(name, group))
  body += [_pictures(runs), _settings(runs), _versions(runs), _commands(runs)]
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    f'<link rel="icon" href="data:,">\n<title>{_text(title)}</title>\n'
    f'<style>{page_style.CSS}</style>\n</head>\n<body>\n{"".join(body)}</body>\n</html>\n'
  )


def _text(value) -> str:
  return html.escape(str(value))


def _one(run) -> str:
  """The verdict, the bars and the table of one run."""
  parts = [f'<p class="note">{_text(_about(run))}</p>']
  for row in run.students:
    label = 'The student' if row['name'] == 'student' else 'The averaged student'
    parts.append(f'<p class="verdict">{_text(verdict.sentence(label, run.rows, row))}</p>')
    parts.append(_bars(run.rows, row))
  return ''.join(parts) + _table([run])


def _several(name, group) -> str:
  """Which of several students on the same data closes most of which gap."""
  rivals = [(label, run.rows, row) for label, run, row in _students(group)]
  return (
    f'<h2>Students on {_text(name)}</h2>'
    f'<p class="verdict">{_text(verdict.comparison(rivals))}</p>{_matrix(rivals)}{_table(group)}'
  )


def _students(group):
  for run in group:
    for row in run.students:
      averaged = ' (averaged)' if row['name'] == 'student-averaged' else ''
      yield run.label + averaged, run, row


def _about(run) -> str:
  c = run.config
  kind = _KINDS.get(c['student']['kind'], c['student']['kind'])
  moved = c['perturb']['name']
  data = c['data']['name'] + (f', auxiliary data {c["data"]["aux"]}' if c['data']['aux'] else '')
  where = '' if moved == 'none' else f' on inputs moved by {moved}'
  objective = c['objective']['name'].replace('_', ' ')
  return (
    f'{data}: an ensemble of {c["teacher"]["members"]} distilled into {kind} '
    f'by {objective}{where}; {c["seeds"]} student(s), seed {c["seed"]}.'
  )


def _bars(rows, student) -> str:
  """A bar for each metric: 0 is one network, 1 the ensemble."""
  gaps = verdict.gaps(rows, student)
  parts = []
  if gaps.closed:
    marks = ''.join(
      f'<span style="left:{_at(v):.1f}%">{t}</span>'
      for v, t in ((0, 'one network'), (1, 'the ensemble'))
    )
    parts.append(
      '<h2>How much of the gap is closed</h2><div class="gap"><div class="name"></div>'
      f'<div class="scale">{marks}</div><div></div></div>'
    )
    parts += [_bar(gap) for gap in gaps.closed]
    if student['seeds'] > 1:
      parts.append(
        f'<p class="note">Whiskers: one standard error over {student["seeds"]} students.</p>'
      )
  for words, names in (
    ('No gap between one network and the ensemble that could be told from noise', gaps.no_gap),
    ('No better in the ensemble than in one network', gaps.worse),
  ):
    if names:
      parts.append(f'<p class="note">{words}: {_text(", ".join(names))}.</p>')
  return ''.join(parts)


def _at(value: float) -> float:
  """Where a value stands on the track, in percent of its width."""
  return 100 * (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW)


def _bar(gap) -> str:
  start, end = sorted((_at(0), _at(gap.closed)))
  value = f'{verdict.percent(gap)} %'
  beyond = '◂ ' if gap.closed < LOW else '▸ ' if gap.closed > HIGH else ''
  whisker = ''
  if gap.error:
    low, high = _at(gap.closed - gap.error), _at(gap.closed + gap.error)
    whisker = f'<i class="error" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
  return (
    f'<div class="gap"><div class="name">{_text(gap.title)}</div>'
    f'<div class="track" role="img" aria-label="{_text(gap.title)}: {value} of the gap closed">'
    f'<i class="fill{" below" if gap.closed < 0 else ""}" '
    f'style="left:{start:.1f}%;width:{end - start:.1f}%"></i>'
    f'<i class="mark" style="left:{_at(0):.1f}%"></i>'
    f'<i class="mark" style="left:{_at(1):.1f}%"></i>'
    f'{whisker}</div><div class="value">{beyond}{value}</div></div>'
  )


def _matrix(rivals) -> str:
  """Gap closed of every student by every metric; the fuller a cell, the more is closed."""
  found = {label: verdict.gaps(rows, row).closed for label, rows, row in rivals}
  titles = {gap.metric: gap.title for gaps in found.values() for gap in gaps}
  top = {m: max(g.closed for gaps in found.values() for g in gaps if g.metric == m) for m in titles}
  lines = []
  for label, gaps in found.items():
    cells = {gap.metric: gap for gap in gaps}
    lines.append(f'<tr><td>{_text(label)}</td>')
    for metric in titles:
      lines.append(_heat(cells.get(metric), top[metric]))
    lines.append('</tr>')
  head = ''.join(f'<th>{_text(title)}</th>' for title in titles.values())
  return (
    '<h2>How much of the gap is closed, %</h2><div class="scroll"><table class="matrix"><thead><tr>'
    f'<th>student</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    '<p class="note">0 is one network, 100 the ensemble; – where the two cannot be told '
    'apart or the ensemble is no better. Bold: the most.</p>'
  )


def _heat(gap, top) -> str:
  if gap is None:
    return '<td>–</td>'
  text = verdict.percent(gap)
  if round(100 * gap.closed) == round(100 * top):
    text = f'<b>{text}</b>'
  return f'<td class="heat" style="--closed:{min(max(gap.closed, 0), 1):.2f}">{text}</td>'


def _table(group) -> str:
  rows = tables.joined({run.label: run.results for run in group})
  columns = columns_lib.table_columns([r.row for r in rows])
  tops = [tables.best(rows, column) for column in columns]
  lines = []
  for i, row in enumerate(rows):
    cells = [_text(tables.cell(row.row, column)) for column in columns]
    cells = [f'<b>{c}</b>' if i in t else c for c, t in zip(cells, tops)]
    first = ' class="first"' if row.student and i and not rows[i - 1].student else ''
    lines.append(
      f'<tr{first}><td>{_text(row.label)}</td>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'
    )
  head = ''.join(f'<th>{_head(column)}</th>' for column in columns)
  missing = {k: v for run in group for k, v in run.results.get('not_run', {}).items()}
  notes = [tables.bold_note(rows), *(f'Not run: {k}: {v}' for k, v in missing.items())]
  return (
    f'<h2>Results</h2><div class="scroll"><table><thead><tr><th>model</th>{head}</tr></thead>'
    f'<tbody>{"".join(lines)}</tbody></table></div>'
    + ''.join(f'<p class="note">{_text(note)}</p>' for note in notes)
  )


def _head(column) -> str:
  """A column's title, with what stands in brackets on a line of its own."""
  return _text(tables.arrow(column)).replace(' (', '<br>(')


def _pictures(runs) -> str:
  """Every picture of a single run as vectors; of several the bitmaps, folded away."""
  parts = []
  for run in runs:
    figures = ''.join(
      _figure(run.folder / 'figures' / name, caption, vector=len(runs) == 1)
      for name, caption in run.results.get('pictures', {}).items()
    )
    if figures and len(runs) > 1:
      figures = f'<details><summary>{_text(run.label)}</summary>{figures}</details>'
    parts.append(figures)
  return f'<h2>Pictures</h2>{"".join(parts)}' if any(parts) else ''


def _figure(path: pathlib.Path, caption: str, vector: bool) -> str:
  file = path.with_suffix('.svg' if vector else '.png')
  try:
    content = base64.b64encode(file.read_bytes()).decode()
  except OSError:
    return f'<p class="note">{_text(file)} is not there.</p>'
  kind = 'svg+xml' if vector else 'png'
  title = _text(path.name.replace('_', ' '))
  return (
    f'<figure><h3>{title}</h3><div class="card wide"><img alt="{title}: {_text(caption)}" '
    f'src="data:image/{kind};base64,{content}"></div><figcaption>{_text(caption)}</figcaption></figure>'
  )


def _settings(runs) -> str:
  parts = ['<h2>Configuration</h2>']
  for run in runs:
    name = 'Every setting' if len(runs) == 1 else run.label
    text = json.dumps(run.config, indent=2, sort_keys=True)
    parts.append(f'<details><summary>{_text(name)}</summary><pre>{_text(text)}</pre></details>')
  return ''.join(parts)


def _versions(runs) -> str:
  """What ran it; runs of the same versions share a line."""
  groups = {}
  for run in runs:
    text = ', '.join(f'{k} {v}' for k, v in run.results.get('versions', {}).items())
    groups.setdefault(text, []).append(run.label)
  whose = lambda labels: f'{", ".join(labels)}: ' if len(groups) > 1 else ''
  lines = [
    f'<p class="note">{_text(whose(labels) + text)}</p>' for text, labels in groups.items() if text
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
  logs = folders[0] if len(folders) == 1 else shlex.quote(str(_common(runs)))
  lines += ['# curves, pictures and hyper-parameters', f'tensorboard --logdir {logs}']
  return f'<h2>To repeat it</h2><pre>{_text(chr(10).join(lines))}</pre>'


def _common(runs) -> pathlib.Path:
  import os

  return pathlib.Path(os.path.commonpath([run.folder.resolve() for run in runs]))
