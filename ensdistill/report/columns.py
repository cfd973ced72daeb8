"""Columns of the tables: metric, title, number format, and whether higher or lower is better.

A table shows every column for which one of its rows has a value. Classification and regression
share the lists below, because they have different metrics.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ensdistill.data import shift
from ensdistill.evaluation.gaps import percent_closed
from ensdistill.evaluation.rows import MEMBER, of_role


class Column(NamedTuple):
  """One metric of results.json in a table."""

  key: str
  title: str
  form: Callable[[float], str]
  better: str = ''  # 'higher', 'lower', or '' where neither is better
  error: Callable[[float], str] | None = None  # format of the standard error; None: as the value
  both: Callable[[float, float], str] | None = None  # of value and error; None: 'value ± error'


def percent(digits: int) -> Callable[[float], str]:
  """Return the format of a share in percent with this number of decimals."""

  def form(value: float) -> str:
    return f'{100 * value:.{digits}f}'

  return form


def fixed(digits: int) -> Callable[[float], str]:
  """Return the format with this number of decimals."""
  return f'{{:.{digits}f}}'.format


def significant(digits: int) -> Callable[[float], str]:
  """Return the format with this number of significant digits, for values in any unit."""

  def form(value: float) -> str:
    size = math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0
    if not -6 <= size <= 8:
      return f'{value:.{digits}g}'
    return f'{value:.{max(digits - 1 - size, 0)}f}'

  return form


def short(value: float) -> str:
  """Return three significant digits with k, M, G or T: 77.8k."""
  value = float(f'{value:.3g}')  # 999,700 is 1M
  for size, unit in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= size:
      return f'{value / size:.3g}{unit}'
  return f'{value:.3g}'


def _gap_percent(share: float, error: float | None = None) -> str:
  return f'{percent_closed(share, error)} %'


QUALITY = (
  Column('acc', 'ACC %', percent(2), 'higher'),
  Column('rmse', 'RMSE', significant(4), 'lower', significant(2)),
  Column('nll', 'NLL', fixed(4), 'lower'),
  Column('bs', 'Brier', fixed(4), 'lower'),
  Column('crps', 'CRPS', significant(4), 'lower', significant(2)),
  Column('ece', 'ECE %', percent(2), 'lower'),
  Column('coverage_90', 'in 90 %', percent(1)),
  Column('pairwise_kl', 'div. KL', fixed(3)),
)
CALIBRATION = (
  Column('cnll', 'cNLL', fixed(4), 'lower'),
  Column('cece', 'cECE %', percent(2), 'lower'),
  Column('classwise_ece', 'classwise ECE %', percent(3), 'lower'),
  Column('smooth_ece', 'smooth ECE %', percent(2), 'lower'),
  Column('dee', 'DEE', fixed(2), 'higher'),
  Column('shift/mean/3/acc', 'shifted ACC %', percent(2), 'higher'),
  Column('shift/mean/3/ece', 'shifted ECE %', percent(2), 'lower'),
  Column('calibration_error', 'calibration', fixed(4), 'lower'),
  Column('sharpness_90', 'width of 90 %', significant(4), '', significant(2)),
  Column('entropy_knowledge', 'knowledge (nats)', fixed(4)),
)
UNCERTAINTY = (
  Column('prr', 'PRR %', fixed(1), 'higher'),
  Column('aurc', 'AURC %', percent(3), 'lower'),
  Column('misclassification/auroc_confidence', 'errors AUROC %', percent(2), 'higher'),
  Column('agreement_kl', 'KL to ensemble', fixed(4), 'lower'),
  Column('agreement_knowledge', 'rank of knowledge', fixed(3), 'higher'),
)
OOD = {'total': 'total', 'knowledge': 'knowledge', 'entropy_knowledge': 'knowledge in nats'}
RELATIVE_TIME = 'time_ratio'  # where runs are compared: time relative to one member in the same run
PARAMETERS = Column('params', 'parameters', '{:,.0f}'.format, 'lower')
TIME = Column('ms_per_example', 'ms/example', significant(3), 'lower', significant(2))
COST = (
  PARAMETERS,
  Column('flops', 'FLOPs', short, 'lower'),
  TIME,
  Column('ms_per_example/batch_1', 'ms alone', significant(3), 'lower', significant(2)),
  Column(RELATIVE_TIME, 'relative time', fixed(2), 'lower'),
)
# A table of its own has these metrics of the training inputs beside those of the test set. It
# shows how well a model fits, so no value is the best.
TRAINING = (
  Column('acc', 'ACC %', percent(2)),
  Column('rmse', 'RMSE', significant(4), '', significant(2)),
  Column('nll', 'NLL', fixed(4)),
  Column('pairwise_kl', 'div. KL', fixed(4)),
  Column('knowledge', 'knowledge', significant(3), '', significant(2)),
)
GAP = Column('gap_closed/nll', 'gap closed', _gap_percent, 'higher', both=_gap_percent)

# Metrics in the verdict, by the names that readers know. Out-of-distribution sets are added.
GAPS = {
  'acc': 'accuracy',
  'rmse': 'RMSE',
  'nll': 'NLL',
  'cnll': 'calibrated NLL',
  'bs': 'Brier score',
  'crps': 'CRPS',
  'ece': 'calibration (ECE)',
  'calibration_error': 'calibration',
  'prr': 'rejection of errors (PRR)',
  'misclassification/auroc_confidence': 'detection of errors (AUROC)',
  'shift/mean/3/acc': 'accuracy under shift (severity 3)',
  'shift/mean/3/nll': 'NLL under shift (severity 3)',
}
# Measures of disagreement. The verdict uses the first one that the rows have. The best value is
# that of the ensemble, neither higher nor lower.
MATCHED = {
  'pairwise_kl': 'disagreement (pairwise KL)',
  'knowledge': 'disagreement (knowledge variance)',
}
# {metric, or the last part of its name: what is better}, also for metrics without a column. The
# members of an ensemble disagree more than one network does.
_BETTER = {
  **{c.key: c.better for c in (*QUALITY, *CALIBRATION, *UNCERTAINTY, *COST, GAP) if c.better},
  **{f'auroc_{name}': 'higher' for name in (*OOD, 'confidence')},
  **dict.fromkeys(MATCHED, 'higher'),
  'augrc': 'lower',
  'risk_at_80_coverage': 'lower',
}
# The note on metrics of `shift/...` that are measured on corruptions of this package.
OWN_SHIFTS = "Corruptions are the package's own and not comparable with CIFAR-10-C."


def known() -> list[str]:
  """Return the metrics of all columns that do not depend on the evaluated sets."""
  shown = [*QUALITY, *CALIBRATION, *UNCERTAINTY, *COST]
  return [column.key for column in shown if column.key != RELATIVE_TIME]


def present(rows: Iterable[dict], columns: Iterable[Column]) -> list[Column]:
  """Return the columns for which one of the rows has a value."""
  metrics = [row['metrics'] for row in rows]
  return [c for c in columns if any(values.get(c.key) is not None for values in metrics)]


def ood_sets(rows: Iterable[dict]) -> list[str]:
  """Return the names of the out-of-distribution sets in these rows, in order of appearance."""
  keys = (key.split('/') for row in rows for key in row['metrics'] if key.startswith('ood/'))
  return list(dict.fromkeys(key[1] for key in keys))


def shift_note(metrics: Iterable[dict]) -> str | None:
  """Return the note on shift metrics where corruptions of the package itself are among them."""
  kinds = {key.split('/')[1] for found in metrics for key in found if key.startswith('shift/')}
  return OWN_SHIFTS if kinds.intersection(shift.SHIFTS) else None


def table_columns(rows: list[dict]) -> list[Column]:
  """Return the columns of the report's table."""
  return [column for group in groups(rows).values() for column in group]


# Columns that few readers look for: the page folds them.
_RARE = (
  *('classwise_ece', 'smooth_ece', 'cece', 'shift/mean/3/ece', 'sharpness_90', 'aurc'),
  *('entropy_knowledge', 'agreement_kl', 'agreement_knowledge', 'auroc_entropy_knowledge'),
  *('flops', 'batch_1', 'auroc_confidence'),
)


def is_rare(column: Column) -> bool:
  """Return whether the page folds a column."""
  return column.key in _RARE or column.key.rpartition('/')[2] in _RARE


def ood_columns(rows: Iterable[dict]) -> list[Column]:
  """Return the columns of all out-of-distribution sets in these rows."""
  ood = []
  for name in ood_sets(rows):
    for score, words in OOD.items():
      title = f'{name} AUROC % ({words})'
      ood.append(Column(f'ood/{name}/auroc_{score}', title, percent(2), 'higher'))
    title = f'rank of knowledge ({name})'
    ood.append(Column(f'ood/{name}/agreement_knowledge', title, fixed(3), 'higher'))
  return ood


def groups(rows: list[dict]) -> dict[str, list[Column]]:
  """Return the columns of the report's table by topic."""
  topics = {
    'quality on the test set': QUALITY,
    'calibration and shift': CALIBRATION,
    'errors and agreement': UNCERTAINTY,
    'out-of-distribution inputs': ood_columns(rows),
    'cost': COST,
  }
  found = {topic: present(rows, columns) for topic, columns in topics.items()}
  return {topic: columns for topic, columns in found.items() if columns}


def training(rows: list[dict]) -> list[Column]:
  """Return the columns of the table of the training inputs; none where they were not evaluated."""
  found = []
  for column in TRAINING:
    own = column._replace(key=f'train/{column.key}', title=f'{column.title} (training)')
    if present(rows, [own]):
      found += [own, column._replace(title=f'{column.title} (test)')]
  return found


def gap_names(rows: list[dict]) -> dict[str, str]:
  """Return {metric: its name in words} for the metrics of the verdict."""
  member: dict = next(iter(of_role(rows, MEMBER)), {'metrics': {}})['metrics']
  names = dict(GAPS)
  names |= [(key, title) for key, title in MATCHED.items() if key in member][:1]
  for ood in ood_sets(rows):
    names[f'ood/{ood}/auroc_total'] = f'{ood} AUROC (total)'
    # One network without knowledge uncertainty is at chance; a gap from there says nothing.
    if member.get('knowledge'):
      names[f'ood/{ood}/auroc_knowledge'] = f'{ood} AUROC (knowledge)'
  return names


def higher_is_better(metric: str) -> bool:
  """Return whether a higher value of this metric is better; raise KeyError if it is unknown."""
  better = _BETTER.get(metric) or _BETTER[metric.rpartition('/')[2]]
  return better == 'higher'
