"""The table of the digits sweep, and what it measured of each recipe, from results/*.json."""

import json
import pathlib

from ensdistill.commands import readme
from ensdistill.evaluation import rows
from ensdistill.report import columns, tables
from ensdistill.report.columns import Column
from ensdistill.sweep import models, records
from ensdistill.sweep import tables as sweep_tables
from ensdistill.sweep.models import Group
from experiments import plans

COLUMNS = (
  Column('acc', 'ACC %', columns.percent(2), 'higher'),
  Column('nll', 'NLL', columns.fixed(4), 'lower'),
  Column('ece', 'ECE %', columns.percent(2), 'lower'),
  Column('pairwise_kl', 'div. KL', columns.fixed(3)),
  Column('shift/mean/3/acc', 'shifted ACC %', columns.percent(1), 'higher'),
  Column('ood/digits_inverted/auroc_total', 'OOD AUROC % (total)', columns.percent(1), 'higher'),
  # One member has no knowledge uncertainty to compare with.
  Column('ood/digits_inverted/auroc_knowledge', 'OOD AUROC % (knowledge)', columns.percent(1)),
  columns.PARAMETERS._replace(better=''),
  columns.GAP,
)

# {page of docs/papers/: (labels of its models, columns of its table)}
PAPERS = {
  'kd': (('one member', 'ensemble of 4', 'kd'), ('acc', 'nll', 'ece', columns.GAP.key)),
  'hydra': (
    ('ensemble of 4', 'hydra', 'kd'),
    ('nll', 'pairwise_kl', 'ood/digits_inverted/auroc_knowledge', columns.GAP.key),
  ),
  'end2': (
    ('ensemble of 4', 'end2'),
    (
      *('acc', 'nll', 'ood/digits_inverted/auroc_total', 'ood/digits_inverted/auroc_knowledge'),
      columns.GAP.key,
    ),
  ),
  'diversity_matters': (
    ('ensemble of 4', 'be_kd', 'be_confods'),
    (
      *('nll', 'pairwise_kl', 'shift/mean/3/acc', 'ood/digits_inverted/auroc_knowledge'),
      columns.GAP.key,
    ),
  ),
  'latentbe': (
    ('one member', 'ensemble of 4', 'latentbe_tdiv_sdiv (averaged)'),
    ('acc', 'nll', 'shift/mean/3/acc', columns.GAP.key),
  ),
}


def files(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, str | dict[str, str]]:
  """Return {file: new content, or {mark: text}} of everything that shows these results."""
  (group,) = models.by_data(records.read_all(results))
  table = sweep_tables.chosen(group, COLUMNS, None)
  content = {'digits': f'{about(group)}\n\n{sweep_tables.as_text(table)}\n{verdict(group)}'}
  measured = measured_by(root, group)
  return {
    root / 'README.md': content,
    root / 'experiments' / 'digits' / 'README.md': content,
    root / 'configs' / 'measured.json': json.dumps(measured, indent=2, ensure_ascii=False) + '\n',
    root / 'configs' / 'README.md': readme.markdown(measured),
    **papers(root / 'docs' / 'papers', group),
  }


def papers(folder: pathlib.Path, group: Group) -> dict[pathlib.Path, dict[str, str]]:
  """Return {page: {mark: its table}} of the pages of papers that are there."""
  found = {}
  for name, (labels, keys) in PAPERS.items():
    shown = [column for column in COLUMNS if column.key in keys]
    text = sweep_tables.as_text(sweep_tables.chosen(group, shown, None, labels))
    path = folder / f'{name}.md'
    if path.exists():
      found[path] = {'digits': f'{protocol(group)}\n\n{text}'}
  return found


def protocol(group: Group) -> str:
  """Return the experiment in a sentence."""
  teachers, seeds = (len({record[key] for record in group.records}) for key in ('teacher', 'seed'))
  return (
    f'Digits, {teachers} teachers of four ResNet-8 and {seeds} students of each '
    '(`python -m experiments.digits.run`; experiments/digits/README.md has all methods):'
  )


def about(group: Group) -> str:
  """Return what was run."""
  teachers = len({record['teacher'] for record in group.records})
  seeds = len({record['seed'] for record in group.records})
  hours = plans.hours(group.records)
  methods = {record['method'] for record in group.records}
  longer = [f', `{name}`' for name in ('end_aux', 'end2_aux') if name in methods]
  return (
    f"{len(methods)} methods on scikit-learn's digits: {teachers} teachers of four ResNet-8 "
    f'(150 steps), {seeds} students of each, 600 training and 997 test images; {hours:.1f} hours '
    f'on {plans.machines(group.records)}. Single and multi-head students train for 250 steps, '
    f'BatchEnsemble students{"".join(longer)} for 500. *Shifted*: mean over the '
    'corruptions at severity 3. *OOD*: inverted digits; a single network has no knowledge '
    'uncertainty, so its AUROC is 50. *Gap closed*: 0 % is one member, 100 % the ensemble.'
  )


def verdict(group: Group) -> str:
  """Return which students have a lower NLL than one member, by two standard errors."""
  nll = next(column for column in COLUMNS if column.key == 'nll')
  won: dict[bool, list[str]] = {True: [], False: []}
  for model in group.students():
    won[sweep_tables.leads(group, model, None, nll)].append(f'`{model.label}`')
  return (
    'Better than one member in NLL by more than two standard errors of the paired difference: '
    f'{", ".join(won[True]) or "none"}. Not better: {", ".join(won[False]) or "none"}.\n'
  )


def measured_by(root: pathlib.Path, group: Group) -> dict[str, dict[str, str]]:
  """Return configs/measured.json with what this sweep measured."""
  measured = json.loads((root / 'configs' / 'measured.json').read_text())
  acc, nll = COLUMNS[:2]
  for model in group.students():
    row, (member, _) = group.row(model).row, group.teachers_of(model)
    assert member
    alone = tables.cell(group.row(member).row, nll)
    which = ', the averaged network' if model.role == rows.AVERAGED else ''
    own = [r for r in group.records if r['method'] == model.method]
    counts = f'{row["metrics"]["teachers"]} teachers, {row["metrics"]["runs"]} runs'
    seconds = sum(r['timings']['student'] for r in own) / len(own)
    measured[f'{model.method}_digits'] |= {
      'measured': (
        f'ACC {tables.cell(row, acc)} %, NLL {tables.cell(row, nll)}; one member {alone} '
        f'({counts}{which})'
      ),
      'time': f'{seconds:.0f} s for a student',
    }
  return measured
