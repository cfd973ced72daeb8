"""report.html: one self-contained page over one or more runs, without scripts or requests.

This module and `appendix` collect what the templates show.
"""

from collections.abc import Iterable, Mapping

from ensdistill.evaluation.gaps import LEAST_CLOSED, MOST_CLOSED
from ensdistill.evaluation.rows import STUDENT
from ensdistill.report import appendix, columns, glossary, tables, templating, verdict
from ensdistill.report.runs import Run, by_data

LOW, HIGH = -0.25, 1.25  # ends of the gap bars
KINDS = {
  'single': 'a single network',
  'multi_head': 'a network with many heads',
  'batch_ensemble': 'a batch ensemble',
}
_SECTIONS = {
  'students': 'Students',
  'results': 'Results',
  'pictures': 'Pictures',
  'runs': 'Single runs',
  'glossary': 'Glossary',
  'configuration': 'Configuration',
  'commands': 'Commands',
}


def page(runs: list[Run], joint: Mapping[str, list[dict]] | None = None) -> str:
  """Return the whole page; several runs on the same data are compared.

  joint: {data: pictures of all its runs}, as `appendix.drawn` returns them.
  """
  title = runs[0].label if len(runs) == 1 else f'{len(runs)} runs compared'
  groups = by_data(runs)
  parts = [
    _one(group[0]) if len(group) == 1 else _several(name, group, (joint or {}).get(name, []))
    for name, group in groups.items()
  ]
  names = ('main', 'rare', 'training', 'others')
  entries = _glossary(part['tables'][name] for part in parts for name in names)
  alone = len(runs) == 1
  pictures = appendix.pictures(runs[0]) if alone else []
  singles = [_single(run) for group in groups.values() for run in group if not alone]
  has = {
    'students': any(part['several'] for part in parts),
    'pictures': bool(pictures),
    'runs': bool(singles),
    'glossary': bool(entries),
  }
  sections = [(name, words) for name, words in _SECTIONS.items() if has.get(name, True)]
  return templating.render(
    'page.html',
    title=title,
    sections=sections,
    parts=parts,
    pictures=pictures,
    runs=singles,
    glossary=entries,
    **appendix.about(runs),
  )


def tables_page(title: str, sections: Iterable[tuple[str, dict, list[str]]]) -> str:
  """Return a page of tables: (title, `grid`, notes) each."""
  found = list(sections)
  entries = _glossary(grid for _, grid, _ in found)
  return templating.render('tables.html', title=title, tables=found, glossary=entries)


def _glossary(grids: Iterable[dict | None]) -> list[tuple[str, glossary.Entry]]:
  """Return the entries of all columns of these tables, in the glossary's order."""
  used = {column['anchor'] for grid in grids if grid for column in grid['columns']}
  used.add('gap_closed')
  return [(name, entry) for name, entry in glossary.ENTRIES.items() if name in used]


def _one(run: Run) -> dict:
  """Return the verdict, the bars and the tables of one run."""
  return {'several': False, **_single(run, pictures=False), 'tables': results([run])}


def _single(run: Run, pictures: bool = True) -> dict:
  """Return what a page shows of one run beside tables."""
  return {
    'label': run.label,
    'about': _about(run),
    'students': [_student(run, row) for row in run.students],
    'pictures': appendix.pictures(run) if pictures else [],
  }


def _student(run: Run, row: dict) -> dict:
  """Return the verdict on a student and its bars."""
  label = 'The student' if row['role'] == STUDENT else 'The averaged student'
  covered = run.results.get('coverage', {}).get(row['name'])
  return {
    'label': label,
    'sentence': verdict.sentence(label, run.rows, row),
    'notes': [covered] if covered else [],
    'bars': bars(label, run.rows, row),
  }


def _several(name: str, group: list[Run], pictures: list[dict]) -> dict:
  """Return the comparison of several students on the same data."""
  rivals = [(run.named(row), run.rows, row) for run in group for row in run.students[:1]]
  return {
    'several': True,
    'name': name,
    'lines': verdict.comparison(rivals),
    'pictures': pictures,
    'heat': heat(rivals),
    'tables': results(group),
  }


def _about(run: Run) -> str:
  """Return a sentence about data, ensemble and method of a run."""
  c = run.config
  kind = KINDS.get(c['student']['kind'], c['student']['kind'])
  perturbation = c['perturb']['name']
  data = c['data']['name'] + (f', auxiliary data {c["data"]["aux"]}' if c['data']['aux'] else '')
  where = '' if perturbation == 'none' else f', inputs perturbed by {perturbation}'
  objective = c['objective']['name'].replace('_', ' ')
  students = 'one student' if c['seeds'] == 1 else f'{c["seeds"]} students'
  return (
    f'{data}: an ensemble of {c["teacher"]["members"]}, distilled into {kind} '
    f'(objective: {objective}{where}); {students}, seed {c["seed"]}.'
  )


def bars(label: str, rows: list[dict], student: dict) -> dict:
  """Return a bar for each metric: 0 is one network, 1 the ensemble."""
  gaps = verdict.gaps(rows, student)
  notes = []
  if any(gap.error for gap in gaps.closed):
    seeds = student['seeds']
    over = f'{seeds} students and the test examples' if seeds > 1 else 'the test examples'
    notes.append(f'Whiskers: one standard error over {over}.')
  for words, names in (
    ('No significant difference between one network and the ensemble', gaps.no_gap),
    ('The ensemble is no better than one network', gaps.worse),
  ):
    if names:
      notes.append(f'{words}: {", ".join(names)}.')
  return {
    'label': label[0].lower() + label[1:],
    'marks': [(_at(v), words) for v, words in ((0, 'one network'), (1, 'the ensemble'))],
    'bars': [_bar(gap) for gap in gaps.closed],
    'notes': notes,
  }


def _at(value: float) -> str:
  """Return the position of a value on the track, in percent of its width."""
  return f'{100 * _share(value):.1f}'


def _share(value: float) -> float:
  return (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW)


def _bar(gap: verdict.Gap) -> dict:
  """Return the bar of one metric."""
  start, end = sorted((_share(0), _share(gap.closed)))
  beyond = '◂ ' if gap.closed < LOW else '▸ ' if gap.closed > HIGH else ''
  has_digits = LEAST_CLOSED <= gap.closed <= MOST_CLOSED
  whisker = None
  if gap.error and has_digits:
    low, high = gap.closed - gap.error, gap.closed + gap.error
    at, width = _share(low), _share(high) - _share(low)
    cut = [side for side, out in (('left', low < LOW), ('right', high > HIGH)) if out]
    if width:
      whisker = {'left': f'{100 * at:.1f}', 'width': f'{100 * width:.1f}', 'cut': cut}
  return {
    'title': gap.title,
    'value': f'{verdict.percent(gap)} %',
    'beyond': beyond if has_digits else '',
    'below': gap.closed < 0,
    'left': f'{100 * start:.1f}',
    'width': f'{100 * (end - start):.1f}',
    'error': whisker,
  }


def heat(rivals: list[tuple[str, list[dict], dict]]) -> dict:
  """Return a table of the gap closed by student and metric; the colour shows how much is closed."""
  found = {label: verdict.gaps(rows, row).closed for label, rows, row in rivals}
  titles = {gap.metric: gap.title for gaps in found.values() for gap in gaps}
  every = [gap for gaps in found.values() for gap in gaps]
  tops = {m: _best([g for g in every if g.metric == m]) for m in titles}
  lines = []
  for label, gaps in found.items():
    own = {gap.metric: gap for gap in gaps}
    cells = [_heat(own.get(metric), tops[metric]) for metric in titles]
    lines.append({'label': label, 'cells': cells})
  return {'titles': [_split(title) for title in titles.values()], 'rows': lines}


def _best(gaps: list[verdict.Gap]) -> list[verdict.Gap]:
  """Return the best gap and those that are not told from it; none where nothing is."""
  top = max(gaps, key=verdict.merit)
  best = [gap for gap in gaps if gap is top or not verdict.told_apart(gap, top)]
  return [gap for gap in best if gap.closed > 0] if len(best) < len(gaps) else []


def _heat(gap: verdict.Gap | None, best: list[verdict.Gap]) -> dict | None:
  """Return the cell of one gap."""
  if gap is None:
    return None
  closed = f'{min(max(gap.closed, 0), 1):.2f}'
  return {'text': verdict.percent(gap), 'closed': closed, 'bold': any(gap is b for b in best)}


def results(group: list[Run]) -> dict:
  """Return the tables of results with their notes."""
  rows, others = tables.joined(group), tables.others(group)
  missing = {k: v for run in group for k, v in run.results.get('not_run', {}).items()}
  notes = [tables.bold_note(rows), tables.error_note(rows), tables.time_note(rows)]
  notes += [tables.shift_note(rows), *(f'Not run: {k}: {v}' for k, v in missing.items())]
  by_topic = columns.groups([r.row for r in rows])
  main = {t: [c for c in own if not columns.is_rare(c)] for t, own in by_topic.items()}
  rare = {t: [c for c in own if columns.is_rare(c)] for t, own in by_topic.items()}
  trained = columns.training([r.row for r in rows])
  shown = columns.table_columns([r.row for r in others])
  rare = {topic: own for topic, own in rare.items() if own}
  return {
    'main': grid(rows, main, label='Results'),
    'notes': [note for note in notes if note],
    'rare': grid(rows, rare, label='More columns') if rare else None,
    'rare_topics': ', '.join(rare),
    'training_title': tables.TRAINING,
    'training': grid(rows, {'': trained}, label=tables.TRAINING) if trained else None,
    'training_note': tables.training_note(rows),
    'others': grid(others, {'': shown}, None, label='Other views') if others else None,
  }


def grid(
  rows: list[tables.Row],
  topics: Mapping[str, list[columns.Column]],
  marked: tables.Marked | None = tables.best,
  label: str = '',
) -> dict:
  """Return the table of these rows and columns, with the marked cells in bold."""
  topics = {topic: own for topic, own in topics.items() if own}
  shown = [column for own in topics.values() for column in own]
  edges = {own[0] for own in list(topics.values())[1:]}
  tops = [marked(rows, column) if marked else set() for column in shown]
  lines = []
  for i, row in enumerate(rows):
    cells = [
      {'text': tables.cell(row.row, column), 'bold': i in top} for column, top in zip(shown, tops)
    ]
    first = bool(row.student and i and not rows[i - 1].student)
    lines.append({'label': row.label, 'first': first, 'cells': cells})
  return {
    'label': label,
    'topics': [(topic, len(own)) for topic, own in topics.items()],
    'columns': [_head(column) | {'edge': column in edges} for column in shown],
    'rows': lines,
  }


def _head(column: columns.Column) -> dict:
  """Return the head of a column: its title, and where the glossary explains it."""
  title, detail = _split(tables.arrow(column))
  anchor = glossary.anchor(column.key)
  words = glossary.ENTRIES[anchor].words if anchor else ''
  return {'title': title, 'detail': detail, 'anchor': anchor, 'help': words}


def _split(title: str) -> tuple[str, str]:
  """Return a title, and the part in parentheses, which stands on its own line."""
  start, opened, rest = title.partition(' (')
  return start, opened.strip() + rest
