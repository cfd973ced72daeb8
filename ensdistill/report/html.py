"""report.html: one self-contained page over one or more runs, without scripts or requests."""

from ensdistill.evaluation.rows import STUDENT
from ensdistill.report import appendix, columns, page_style, tables, verdict
from ensdistill.report.appendix import text
from ensdistill.report.runs import Run, by_data

LOW, HIGH = -0.25, 1.25  # ends of the gap bars
_KINDS = {
  'single': 'a single network',
  'multi_head': 'a network with many heads',
  'batch_ensemble': 'a batch ensemble',
}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(runs: list[Run]) -> str:
  """Return the whole page; several runs on the same data are compared."""
  title = runs[0].label if len(runs) == 1 else f'{len(runs)} runs compared'
  body = [f'<h1>{text(title)}</h1>']
  for name, group in by_data(runs).items():
    body.append(_one(group[0]) if len(group) == 1 else _several(name, group))
  body.append(appendix.appendix(runs))
  return document(title, ''.join(body))


def document(title: str, body: str) -> str:
  """Return a page with this title and content."""
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n'
    f'<style>{page_style.CSS}</style>\n</head>\n<body>\n{body}</body>\n</html>\n'
  )


def _one(run: Run) -> str:
  """Return the verdict, the bars and the table of one run."""
  parts = [f'<p class="note">{text(_about(run))}</p>']
  for i, row in enumerate(run.students):
    label = 'The student' if row['role'] == STUDENT else 'The averaged student'
    part = f'<p class="verdict">{text(verdict.sentence(label, run.rows, row))}</p>'
    covered = run.results.get('coverage', {}).get(row['name'])
    part += f'<p class="note">{text(covered)}</p>' if covered else ''
    part += _bars(label, run.rows, row)
    parts.append(_folded(f'{label} (the run was not trained for this view)', part) if i else part)
  return ''.join(parts) + _table([run])


def _several(name: str, group: list[Run]) -> str:
  """Return the comparison of several students on the same data."""
  rivals = [(run.named(row), run.rows, row) for run in group for row in run.students[:1]]
  found = ''.join(f'<li>{text(line)}</li>' for line in verdict.comparison(rivals))
  return (
    f'<h2>Students on {text(name)}</h2>'
    f'<ul class="verdict">{found}</ul>{_matrix(rivals)}{_table(group)}'
  )


def _folded(title: str, content: str) -> str:
  return f'<details><summary>{text(title)}</summary>{content}</details>'


def _about(run: Run) -> str:
  """Return a sentence about data, ensemble and method of a run."""
  c = run.config
  kind = _KINDS.get(c['student']['kind'], c['student']['kind'])
  perturbation = c['perturb']['name']
  data = c['data']['name'] + (f', auxiliary data {c["data"]["aux"]}' if c['data']['aux'] else '')
  where = '' if perturbation == 'none' else f' on inputs perturbed by {perturbation}'
  objective = c['objective']['name'].replace('_', ' ')
  return (
    f'{data}: an ensemble of {c["teacher"]["members"]} distilled into {kind} '
    f'by {objective}{where}; {c["seeds"]} student(s), seed {c["seed"]}.'
  )


def _bars(label: str, rows: list[dict], student: dict) -> str:
  """Return a bar for each metric: 0 is one network, 1 the ensemble."""
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
    ('No significant difference between one network and the ensemble', gaps.no_gap),
    ('The ensemble is no better than one network', gaps.worse),
  ):
    if names:
      parts.append(f'<p class="note">{words}: {text(", ".join(names))}.</p>')
  return ''.join(parts)


def _at(value: float) -> float:
  """Return the position of a value on the track, in percent of its width."""
  return 100 * (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW)


def _bar(gap: verdict.Gap) -> str:
  """Return the bar of one metric."""
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


def _matrix(rivals: list[tuple[str, list[dict], dict]]) -> str:
  """Return a table of the gap closed by student and metric; the colour shows how much is closed."""
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
    '<p class="note">0 is one network, 100 the ensemble. – means that the two do not differ '
    'significantly, or that the ensemble is no better. Bold: the highest value, or for '
    'disagreement the one closest to 100.</p>'
  )


def _heat(gap: verdict.Gap | None, top: verdict.Gap) -> str:
  """Return the cell of one gap; `top` is the best of its metric."""
  if gap is None:
    return '<td>–</td>'
  value = verdict.percent(gap)
  if round(100 * verdict.merit(gap)) == round(100 * verdict.merit(top)):
    value = f'<b>{value}</b>'
  return f'<td class="heat" style="--closed:{min(max(gap.closed, 0), 1):.2f}">{value}</td>'


def _table(group: list[Run]) -> str:
  """Return the table of results with its notes."""
  rows, others = tables.joined(group), tables.others(group)
  missing = {k: v for run in group for k, v in run.results.get('not_run', {}).items()}
  notes = [tables.bold_note(rows), tables.time_note(rows), tables.shift_note(rows)]
  notes += [f'Not run: {k}: {v}' for k, v in missing.items()]
  parts = ['<h2>Results</h2>', grid(rows, columns.table_columns([r.row for r in rows]))]
  parts += [f'<p class="note">{text(note)}</p>' for note in notes if note]
  if training := columns.training([r.row for r in rows]):
    parts += [f'<h2>{tables.TRAINING}</h2>', grid(rows, training)]
    parts.append(f'<p class="note">{text(tables.training_note(rows))}</p>')
  if others:
    title = 'Other views of the students, for which they were not trained'
    shown = columns.table_columns([r.row for r in others])
    parts.append(_folded(title, grid(others, shown, None)))
  return ''.join(parts)


def grid(
  rows: list[tables.Row], shown: list[columns.Column], marked: tables.Marked | None = tables.best
) -> str:
  """Return the table of these rows and columns, with the marked cells in bold."""
  tops = [marked(rows, column) if marked else set() for column in shown]
  lines = []
  for i, row in enumerate(rows):
    cells = [text(tables.cell(row.row, column)) for column in shown]
    cells = [f'<b>{c}</b>' if i in t else c for c, t in zip(cells, tops)]
    first = ' class="first"' if row.student and i and not rows[i - 1].student else ''
    lines.append(
      f'<tr{first}><td>{text(row.label)}</td>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'
    )
  head = ''.join(f'<th>{_head(tables.arrow(column))}</th>' for column in shown)
  return (
    f'<div class="scroll"><table><thead><tr><th>model</th>{head}</tr></thead>'
    f'<tbody>{"".join(lines)}</tbody></table></div>'
  )


def _head(title: str) -> str:
  """Return the title of a column, with the part in parentheses on its own line."""
  return text(title).replace(' (', '<br>(')
