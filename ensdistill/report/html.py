"""report.html: one self-contained page over one run or many, with no script and no request."""

from ensdistill.report import appendix, page_style, tables, verdict
from ensdistill.report import columns as columns_lib
from ensdistill.report import runs as runs_lib
from ensdistill.report.appendix import text

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
  body = [f'<h1>{text(title)}</h1>']
  for name, group in runs_lib.by_data(runs).items():
    body.append(_one(group[0]) if len(group) == 1 else _several(name, group))
  body.append(appendix.appendix(runs))
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n'
    f'<style>{page_style.CSS}</style>\n</head>\n<body>\n{"".join(body)}</body>\n</html>\n'
  )


def _one(run) -> str:
  """The verdict, the bars and the table of one run."""
  parts = [f'<p class="note">{text(_about(run))}</p>']
  for i, row in enumerate(run.students):
    label = 'The student' if row['name'] == 'student' else 'The averaged student'
    part = f'<p class="verdict">{text(verdict.sentence(label, run.rows, row))}</p>'
    part += _bars(label, run.rows, row)
    parts.append(_folded(f'{label}, which this run is not about', part) if i else part)
  return ''.join(parts) + _table([run])


def _several(name, group) -> str:
  """Which of several students on the same data closes most of which gap."""
  rivals = [(run.named(row), run.rows, row) for run in group for row in run.students[:1]]
  found = ''.join(f'<li>{text(line)}</li>' for line in verdict.comparison(rivals))
  return (
    f'<h2>Students on {text(name)}</h2>'
    f'<ul class="verdict">{found}</ul>{_matrix(rivals)}{_table(group)}'
  )


def _folded(title: str, content: str) -> str:
  return f'<details><summary>{text(title)}</summary>{content}</details>'


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


def _bars(label, rows, student) -> str:
  """A bar for each metric: 0 is one network, 1 the ensemble."""
  gaps = verdict.gaps(rows, student)
  parts = []
  if gaps.closed:
    marks = ''.join(
      f'<span style="left:{_at(v):.1f}%">{t}</span>'
      for v, t in ((0, 'one network'), (1, 'the ensemble'))
    )
    parts.append(
      f'<h2>How much of the gap {label[0].lower()}{label[1:]} closes</h2>'
      '<div class="gap"><div class="name"></div>'
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
      parts.append(f'<p class="note">{words}: {text(", ".join(names))}.</p>')
  return ''.join(parts)


def _at(value: float) -> float:
  """Where a value stands on the track, in percent of its width."""
  return 100 * (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW)


def _bar(gap) -> str:
  start, end = sorted((_at(0), _at(gap.closed)))
  value = f'{verdict.percent(gap)} %'
  beyond = '◂ ' if gap.closed < LOW else '▸ ' if gap.closed > HIGH else ''
  whisker = ''
  if gap.error and not beyond:
    low, high = _at(gap.closed - gap.error), _at(gap.closed + gap.error)
    whisker = f'<i class="error" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
  return (
    f'<div class="gap"><div class="name">{text(gap.title)}</div>'
    f'<div class="track" role="img" aria-label="{text(gap.title)}: {value} of the gap closed">'
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
  every = [gap for gaps in found.values() for gap in gaps]
  top = {m: max((g for g in every if g.metric == m), key=verdict.merit) for m in titles}
  lines = []
  for label, gaps in found.items():
    cells = {gap.metric: gap for gap in gaps}
    lines.append(f'<tr><td>{text(label)}</td>')
    for metric in titles:
      lines.append(_heat(cells.get(metric), top[metric]))
    lines.append('</tr>')
  head = ''.join(f'<th>{_head(title)}</th>' for title in titles.values())
  return (
    '<h2>How much of the gap is closed, %</h2><div class="scroll"><table><thead><tr>'
    f'<th>student</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    '<p class="note">0 is one network, 100 the ensemble; – where the two cannot be told '
    'apart or the ensemble is no better. Bold: the most, or of disagreement the nearest.</p>'
  )


def _heat(gap, top) -> str:
  if gap is None:
    return '<td>–</td>'
  value = verdict.percent(gap)
  if round(100 * verdict.merit(gap)) == round(100 * verdict.merit(top)):
    value = f'<b>{value}</b>'
  return f'<td class="heat" style="--closed:{min(max(gap.closed, 0), 1):.2f}">{value}</td>'


def _table(group) -> str:
  rows, others = tables.joined(group), tables.others(group)
  missing = {k: v for run in group for k, v in run.results.get('not_run', {}).items()}
  notes = [tables.bold_note(rows), tables.time_note(rows)]
  notes += [f'Not run: {k}: {v}' for k, v in missing.items()]
  parts = ['<h2>Results</h2>', _grid(rows)]
  parts += [f'<p class="note">{text(note)}</p>' for note in notes if note]
  if others:
    title = (
      'Other views: averages of students that were not trained to be averaged, and the reverse'
    )
    parts.append(_folded(title, _grid(others, rank=False)))
  return ''.join(parts)


def _grid(rows, rank: bool = True) -> str:
  columns = columns_lib.table_columns([r.row for r in rows])
  tops = [tables.best(rows, column) if rank else () for column in columns]
  lines = []
  for i, row in enumerate(rows):
    cells = [text(tables.cell(row.row, column)) for column in columns]
    cells = [f'<b>{c}</b>' if i in t else c for c, t in zip(cells, tops)]
    first = ' class="first"' if row.student and i and not rows[i - 1].student else ''
    lines.append(
      f'<tr{first}><td>{text(row.label)}</td>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'
    )
  head = ''.join(f'<th>{_head(tables.arrow(column))}</th>' for column in columns)
  return (
    f'<div class="scroll"><table><thead><tr><th>model</th>{head}</tr></thead>'
    f'<tbody>{"".join(lines)}</tbody></table></div>'
  )


def _head(title: str) -> str:
  """A column's title, with what stands in brackets on a line of its own."""
  return text(title).replace(' (', '<br>(')
