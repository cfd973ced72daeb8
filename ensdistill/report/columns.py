"""The columns of every table: which metric, its title, how it is written, which way is better."""

from collections.abc import Callable
from typing import NamedTuple


class Column(NamedTuple):
  """One metric of results.json in a table."""

  key: str
  title: str
  form: Callable[[float], str]
  better: str = ''  # 'higher', 'lower', or '' where neither is
  error: Callable[[float], str] | None = None  # how its standard error is written, if otherwise


def percent(digits: int) -> Callable[[float], str]:
  return lambda value: f'{100 * value:.{digits}f}'


def fixed(digits: int) -> Callable[[float], str]:
  return lambda value: f'{value:.{digits}f}'


def digits(count: int) -> Callable[[float], str]:
  """So many significant ones: for what has the target's unit."""
  return lambda value: f'{value:.{count}g}'


def short(value: float) -> str:
  """Three or four digits with k, M, G: 77.8k."""
  for size, unit in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= size:
      return f'{value / size:.3g}{unit}'
  return f'{value:.3g}'


MAIN = {
  'categorical': (
    Column('acc', 'ACC %', percent(2), 'higher'),
    Column('nll', 'NLL', fixed(4), 'lower'),
    Column('bs', 'Brier', fixed(4), 'lower'),
    Column('ece', 'ECE %', percent(2), 'lower'),
    Column('pairwise_kl', 'div. KL', fixed(3)),
  ),
  'gaussian': (
    Column('rmse', 'RMSE', digits(4), 'lower', digits(2)),
    Column('nll', 'NLL', fixed(4), 'lower'),
    Column('crps', 'CRPS', digits(4), 'lower', digits(2)),
    Column('coverage_90', 'in 90 %', percent(1)),
  ),
}
MORE = {
  'categorical': (
    Column('cnll', 'cNLL', fixed(4), 'lower'),
    Column('cece', 'cECE %', percent(2), 'lower'),
    Column('dee', 'DEE', fixed(2), 'higher'),
    Column('shift/mean/3/acc', 'shifted ACC %', percent(2), 'higher'),
    Column('shift/mean/3/ece', 'shifted ECE %', percent(2), 'lower'),
  ),
  'gaussian': (
    Column('calibration_error', 'calibration', fixed(4), 'lower'),
    Column('sharpness_90', 'width of 90 %', digits(4), '', digits(2)),
    Column('entropy_knowledge', 'knowledge (nats)', fixed(4)),
  ),
}
DOUBT = (
  Column('prr', 'PRR %', fixed(1), 'higher'),
  Column('misclassification/auroc_confidence', 'errors AUROC %', percent(2), 'higher'),
  Column('agreement_kl', 'KL to ensemble', fixed(4), 'lower'),
  Column('agreement_knowledge', 'rank of knowledge', fixed(3), 'higher'),
)
OOD = {'total': 'total', 'knowledge': 'knowledge', 'entropy_knowledge': 'knowledge in nats'}
TIMES = 'time_ratio'  # in a comparison of runs: to that of one member in the same run
COST = (
  Column('params', 'parameters', lambda v: f'{v:,.0f}', 'lower'),
  Column('flops', 'FLOPs', short, 'lower'),
  Column('ms_per_example', 'ms/example', fixed(3), 'lower'),
  Column('ms_per_example/batch_1', 'ms alone', fixed(3), 'lower'),
  Column(TIMES, 'relative time', fixed(2), 'lower'),
)
GAP = (Column('gap_closed/nll', 'gap closed', lambda v: f'{100 * v:.0f} %', 'higher'),)

# What the verdict weighs, by the names that a reader knows; out-of-distribution sets come on top.
GAPS = {
  'categorical': {
    'acc': 'accuracy',
    'nll': 'NLL',
    'cnll': 'calibrated NLL',
    'bs': 'Brier score',
    'ece': 'calibration (ECE)',
    'prr': 'rejection of errors (PRR)',
    'misclassification/auroc_confidence': 'detection of errors (AUROC)',
    'shift/mean/3/acc': 'accuracy under shift (severity 3)',
    'shift/mean/3/nll': 'NLL under shift (severity 3)',
    'pairwise_kl': 'disagreement (pairwise KL)',
  },
  'gaussian': {
    'rmse': 'RMSE',
    'nll': 'NLL',
    'crps': 'CRPS',
    'calibration_error': 'calibration',
    'prr': 'rejection of errors (PRR)',
    'knowledge': 'disagreement (knowledge variance)',
  },
}
MATCHED = ('pairwise_kl', 'knowledge')  # as much as the ensemble has is best, not the most
LOWER = ('nll', 'cnll', 'bs', 'ece', 'rmse', 'crps', 'calibration_error')


def family(rows) -> str:
  return 'gaussian' if any('rmse' in row['metrics'] for row in rows) else 'categorical'


def ood_sets(rows) -> list[str]:
  """The out-of-distribution sets that the rows know, in the order of the first that has them."""
  keys = (key.split('/') for row in rows for key in row['metrics'] if key.startswith('ood/'))
  return list(dict.fromkeys(key[1] for key in keys))


def table_columns(rows) -> list[Column]:
  """All columns of the report's table that some row has."""
  return [column for group in groups(rows).values() for column in group]


def groups(rows) -> dict[str, list[Column]]:
  """The same, by what they are about."""
  kind = family(rows)
  ood = []
  for name in ood_sets(rows):
    for score, words in OOD.items():
      title = f'{name} AUROC % ({words})'
      ood.append(Column(f'ood/{name}/auroc_{score}', title, percent(2), 'higher'))
    title = f'rank of knowledge ({name})'
    ood.append(Column(f'ood/{name}/agreement_knowledge', title, fixed(3), 'higher'))
  found = {
    'quality on the test set': MAIN[kind],
    'calibration and shift': MORE[kind],
    'errors found, and agreement with the ensemble': DOUBT,
    'out-of-distribution inputs': ood,
    'cost': COST,
  }
  has = lambda column: any(row['metrics'].get(column.key) is not None for row in rows)
  found = {about: [c for c in columns if has(c)] for about, columns in found.items()}
  return {about: columns for about, columns in found.items() if columns}


def gap_names(rows) -> dict[str, str]:
  """{metric: its name in words} of what the verdict weighs."""
  names = dict(GAPS[family(rows)])
  for ood in ood_sets(rows):
    names[f'ood/{ood}/auroc_total'] = f'{ood} AUROC (total)'
    # Where one network has no knowledge uncertainty, coming up from its chance is no achievement.
    if rows[0]['metrics'].get('knowledge'):
      names[f'ood/{ood}/auroc_knowledge'] = f'{ood} AUROC (knowledge)'
  return names


def higher_is_better(metric: str) -> bool:
  return metric.rpartition('/')[2] not in LOWER
