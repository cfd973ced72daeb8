"""What the papers claim, and what our experiments found: one table, from results/*.json alone.

A claim compares a student with another model in one metric, over teachers and seeds. It is *held*
if the difference has the claimed sign by more than two standard errors, *not held* if it has the
opposite sign by as much, and not decided between them. A single teacher decides nothing, and
neither does an AUROC of foreign inputs that the ensemble itself does not detect.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from ensdistill.evaluation.rows import STUDENT
from ensdistill.sweep import models, statistics
from ensdistill.sweep.jobs import labelled
from ensdistill.sweep.models import Group, Model
from ensdistill.sweep.statistics import Estimate
from experiments import plans, sections
from experiments.cifar_small import collect as levels
from experiments.full import gate
from experiments.grid import run as grid
from experiments.hydra import uci

HELD, NOT_HELD, NOT_TESTED = 'held', 'not held', 'not tested'
NOISE = 'not decided: within noise'
ONE_TEACHER = 'not decided: one teacher'
PARTLY_RUN = 'not decided: sets are missing'
UNDECIDED = 'not decided: the ensemble itself does not detect them'
MEMBER, ENSEMBLE, MEMBERS = 'one member', 'the ensemble', 'its members'
PROTOCOLS = {
  'cifar_small': 'CIFAR-10, 6,000 images of 16 × 16, four ResNet-8',
  'digits': 'digits, 600 images of 8 × 8, four ResNet-8',
  'full': 'CIFAR-10, one protocol, four WRN-28-1',
  'hydra': 'UCI regression, 20 MLPs',
  'mnist': 'MNIST, 50 MLPs',
  'spirals': 'three spirals, 100 MLPs',
}


class Claim(NamedTuple):
  """A claim in one protocol: `label` has a lower or higher metric than `other`."""

  paper: str
  text: str
  experiment: str
  label: str  # of the student in tables
  other: str  # of another student, or MEMBER, ENSEMBLE, MEMBERS
  metric: str
  better: str = 'lower'
  margin: float = 0.0  # how much worse it may be
  of_gap: float = 0.0  # the same, as a share of the gap between one member and the ensemble
  source: tuple[str, str] | None = None  # data and variant, where a folder holds several


class Outcome(NamedTuple):
  """What was found."""

  verdict: str
  number: str = ''
  hours: float = 0.0


P1, P2, P3, P4 = 'Hydra', 'EnD²', 'Diversity Matters', 'LatentBE'
OOD = {
  'digits': 'ood/digits_inverted/auroc_knowledge',
  'cifar_small': 'ood/cifar100_small/auroc_knowledge',
  'mnist': 'ood/notmnist/auroc_knowledge',
}
# Labels of students, where an experiment varies their settings.
KD = {'cifar_small': 'kd (teacher.epochs=40)', 'digits': 'kd', 'mnist': 'kd'}
HYDRA = {'cifar_small': 'hydra', 'digits': 'hydra', 'mnist': 'hydra (teacher.members=50)'}
BE = {'cifar_small': 'be_kd (teacher.epochs=40)', 'digits': 'be_kd'}
CONFODS = {'cifar_small': 'be_confods (perturb.eta=1.0)', 'digits': 'be_confods'}
SDIV = {'cifar_small': 'latentbe_tdiv_sdiv (perturb.eta=1.0)', 'digits': 'latentbe_tdiv_sdiv'}


def _on(experiments: Sequence[str], paper: str, text: str, label, other, metric, **rest):
  """Return a claim for each experiment; labels and metrics may be {experiment: value}."""

  def of(value, experiment):
    return value[experiment] if isinstance(value, dict) else value

  return [
    Claim(paper, text, name, of(label, name), of(other, name), of(metric, name), **rest)
    for name in experiments
  ]


SMALL = ('cifar_small', 'digits')
LEVELS = Claim(
  P3,
  'more is transferred where the training error is larger (share of the pairwise KL kept)',
  'cifar_small',
  'be_kd (teacher.epochs=5)',
  'be_kd (teacher.epochs=40)',
  'pairwise_kl',
  better='higher',
)
BEST = Claim(
  'ours',
  "a combination that no paper tried is better than each paper's best (NLL)",
  'cifar_small',
  'the best points of the grid',
  'the published ones',
  'nll',
)
CLAIMS = [
  LEVELS,
  BEST,
  *_on((*SMALL, 'mnist'), P1, 'better than plain distillation (NLL)', HYDRA, KD, 'nll'),
  *_on((*SMALL, 'mnist'), P1, "keeps the ensemble's detection of foreign inputs by knowledge "
    'uncertainty (AUROC, to .01)', HYDRA, ENSEMBLE, OOD, better='higher', margin=0.01),
  Claim(P1, 'regression: better than plain distillation (NLL)', 'hydra', 'hydra', 'kd', 'nll'),
  *_on(('spirals', 'digits', 'cifar_small'), P2, 'as accurate as the ensemble (to .005)',
    'end2', ENSEMBLE, 'acc', better='higher', margin=0.005),
  *_on(('spirals', 'digits', 'cifar_small'), P2,
    'detects errors better than a single network (PRR, %)', 'end2', 'single', 'prr',
    better='higher'),
  *_on(('spirals',), P2, 'detects errors better than EnD (PRR, %)', 'end2', 'end', 'prr',
    better='higher'),
  *_on(('spirals',), P2, 'detects foreign inputs better than EnD (AUROC, total uncertainty)',
    'end2', 'end', 'ood/spirals_ood/auroc_total', better='higher'),
  *_on(('spirals',), P2, 'with auxiliary points, detects foreign inputs better than EnD with them',
    'end2_aux', 'end_aux', 'ood/spirals_ood/auroc_total', better='higher'),
  *_on(SMALL, P3, 'plain distillation transfers only a part of the diversity (pairwise KL, test)',
    BE, ENSEMBLE, 'pairwise_kl'),
  *_on(('cifar_small',), P3,
    'plain distillation transfers only a part of the diversity (pairwise KL, training)',
    BE, ENSEMBLE, 'train/pairwise_kl'),
  *_on(SMALL, P3, 'ConfODS raises the diversity (pairwise KL) over distillation without it',
    CONFODS, BE, 'pairwise_kl', better='higher'),
  *_on(SMALL, P3, 'ConfODS lowers the NLL', CONFODS, BE, 'nll'),
  *_on(('cifar_small',), BEST.paper, 'ConfODS with a step of four times the length lowers the NLL',
    'be_confods (perturb.eta=4.0)', BE, 'nll'),
  *_on(SMALL, P4, "averaging loses nothing (NLL of the average against its members, to 5 % of the "
    "ensemble's gap)", {'cifar_small': 'latentbe', 'digits': 'latentbe_tdiv_sdiv'}, MEMBERS, 'nll',
    of_gap=0.05),
  *_on(('cifar_small',), P4, 'better than plain distillation (NLL)', 'latentbe', KD, 'nll'),
  *_on(SMALL, P4, 'with TDiv-SDiv, better than plain distillation (NLL)', SDIV, KD, 'nll'),
  *_on(('cifar_small',), P4, 'TDiv-SDiv lowers the NLL', SDIV, 'latentbe', 'nll'),
  *[
    Claim(paper, text, 'full', label, other, 'nll', source=('cifar10', 'common'))
    for paper, text, label, other in (
      (P1, 'better than plain distillation (NLL)', 'hydra', 'kd'),
      (P3, 'ConfODS lowers the NLL', 'be_confods', 'be_kd'),
      (P4, 'with TDiv-SDiv, better than plain distillation (NLL)', 'latentbe_tdiv_sdiv', 'kd'),
    )
  ],
]  # fmt: skip


# The published methods in their own settings; a point of the grid lacks some of them.
AS_PUBLISHED = (
  *('hydra', 'end2', KD['cifar_small'], CONFODS['cifar_small'], 'latentbe', SDIV['cifar_small']),
)


def outcome(claim: Claim, records: Sequence[dict]) -> Outcome:
  """Return the outcome of a claim from the records of its experiment."""
  if claim.experiment == 'hydra':
    return of_uci(records)
  if claim == LEVELS:
    return of_levels(records)
  if claim == BEST:
    return of_best(records)
  if claim.source:
    if not gate.passed(records):
      return Outcome(NOT_TESTED)
    records = [r for r in records if (r['data'], r['variant']) == claim.source]
  groups = models.by_data(records)
  if not groups:
    return Outcome(NOT_TESTED)
  group = groups[0]
  student = sections.model_named(group, claim.label)
  other = _other(group, claim, student) if student else None
  if student is None or other is None:
    return Outcome(NOT_TESTED)
  found = models.difference(student, other, claim.metric)
  if found is None:
    return Outcome(NOT_TESTED)
  hours = plans.hours([r for r in records if models.kind_label(r) in (claim.label, claim.other)])
  member, ensemble = group.teachers_of(student)
  if claim.of_gap and member and ensemble:
    gap = models.difference(member, ensemble, claim.metric)
    claim = claim._replace(margin=claim.of_gap * abs(gap.mean) if gap else 0.0)
  if claim.metric.startswith('ood/'):
    detected = group.estimate(ensemble, claim.metric) if ensemble else None
    if detected and detected.mean <= 0.5:
      return Outcome(UNDECIDED, f'the ensemble has {detected.mean:.2f}', hours)
  return Outcome(judged(claim, found), _number(found), hours)


def of_levels(records: Sequence[dict]) -> Outcome:
  """Return whether more of the diversity is kept where teachers have a larger training error.

  The share that be_kd keeps on test inputs, from teachers of 5 epochs less that of 40 epochs.
  """
  labels = [f'be_kd (teacher.epochs={epochs})' for epochs in (5, 40)]
  early, late = (levels.share(list(records), label, 'pairwise_kl') for label in labels)
  found = statistics.paired(early, late)
  if found is None:
    return Outcome(NOT_TESTED)
  hours = plans.hours([record for record in records if models.kind_label(record) in labels])
  return Outcome(judged(LEVELS, found), _number(found), hours)


def of_best(records: Sequence[dict]) -> Outcome:
  """Return whether one of the grid's unpublished points has a lower NLL than all published ones.

  The number is its difference from the published point with the lowest NLL.
  """
  own = [record for record in records if 'perturb.name' in record['settings']]
  if not own:
    return Outcome(NOT_TESTED)
  group = models.by_data(records)[0]
  points = [m for m in group.students() if 'perturb.name' in m.settings]
  new = [m for m in points if grid.point(m) not in grid.PUBLISHED]
  known = [m for m in points if grid.point(m) in grid.PUBLISHED]
  known += [m for m in group.students() if labelled(m.method, m.settings) in AS_PUBLISHED]
  if not known or not new:
    return Outcome(NOT_TESTED)

  def nll(model: Model) -> float:
    found = group.estimate(model, 'nll')
    return found.mean if found else float('inf')

  verdicts = [[_verdict(model, other) for other in known] for model in new]
  verdict = NOISE
  if any(all(v == HELD for v in row) for row in verdicts):
    verdict = HELD
  elif any({NOT_TESTED, ONE_TEACHER} & {*row} for row in verdicts):
    verdict = NOT_TESTED
  elif all(NOT_HELD in row for row in verdicts):
    verdict = NOT_HELD
  apart = models.difference(min(new, key=nll), min(known, key=nll), 'nll')
  return Outcome(verdict, _number(apart) if apart else '', plans.hours(own))


def _verdict(model: Model, other: Model) -> str:
  found = models.difference(model, other, 'nll')
  return judged(BEST, found) if found else NOT_TESTED


def of_uci(records: Sequence[dict]) -> Outcome:
  """Return whether Hydra's NLL is lower than that of plain distillation on UCI regression.

  Paired over the splits of each set: held if it is lower by two standard errors on more than half
  of the sets and higher on none, and not held if it is higher on more than half. It is not decided
  before all sets have run.
  """
  signs = []
  own = [record for record in records if record['variant'] == '']
  for record in own:
    signs.append(uci.paired(record['nll'], 'hydra', 'kd').told('lower'))
  if not signs:
    return Outcome(NOT_TESTED)
  lower, higher = signs.count(1), signs.count(-1)
  left = len(uci.SETS) - len(signs)
  verdict = NOISE
  if left:
    verdict = PARTLY_RUN
  elif 2 * lower > len(signs) and not higher:
    verdict = HELD
  elif 2 * higher > len(signs):
    verdict = NOT_HELD
  number = f'lower on {lower}, higher on {higher} of {len(signs)} sets'
  number += f' ({left} not run)' if left else ''
  return Outcome(verdict, number, sum(record['wall'] for record in own) / 3600)


def _other(group: Group, claim: Claim, student: Model) -> Model | None:
  """Return the model that a student is compared with."""
  member, ensemble = group.teachers_of(student)
  if claim.other in (MEMBER, ENSEMBLE):
    return member if claim.other == MEMBER else ensemble
  if claim.other == MEMBERS:
    views = group.students(primary=False)
    kind = (STUDENT, student.method, student.settings)
    return next((m for m in views if (m.role, m.method, m.settings) == kind), None)
  return sections.model_named(group, claim.other)


def judged(claim: Claim, found: Estimate) -> str:
  """Return the verdict on a difference."""
  if found.error is None or found.teachers < 2:
    return ONE_TEACHER
  return {1: HELD, -1: NOT_HELD, 0: NOISE}[found.told(claim.better, claim.margin)]


def _number(found: Estimate) -> str:
  seeds, rest = divmod(found.runs, found.teachers)
  runs = f'{found.runs} runs' if rest else f'{found.teachers} × {seeds}'
  return f'{found.text("{:+.4f}".format, "{:.4f}".format)} ({runs})'


def tables(experiments: pathlib.Path) -> tuple[str, str]:
  """Return the table of all claims, and that of the ones that were tested."""
  known: dict[str, list[dict]] = {}
  every, tested = [], []
  order = {paper: number for number, paper in enumerate((P1, P2, P3, P4, BEST.paper))}
  for claim in sorted(CLAIMS, key=lambda claim: order[claim.paper]):
    if claim.experiment not in known:
      known[claim.experiment] = sections.read(experiments / claim.experiment / 'results')
    found = outcome(claim, known[claim.experiment])
    verdict = f'**{found.verdict}**' if found.verdict == HELD else found.verdict
    cells = [claim.paper, claim.text, PROTOCOLS[claim.experiment], verdict, found.number or '-']
    line = f'| {" | ".join(cells)} | {f"{found.hours:.1f}" if found.number else "-"} |'
    every.append(line)
    if found.verdict not in (NOT_TESTED, ONE_TEACHER):
      tested.append(line)
  left = len(every) - len(tested)
  rest = f'{left} more rows are not tested yet, or on one teacher alone.' if left else ''
  return '\n'.join([HEAD, *every, '', NOTES]), '\n'.join([HEAD, *tested, '', NOTES, rest]).strip()


HEAD = """| paper | claim | our protocol | outcome | difference (teachers × seeds) | hours |
| --- | --- | --- | --- | ---: | ---: |"""
NOTES = (
  'The difference is that of the metric in the claim between the student and what it is compared '
  'with, paired over teachers and seeds, with its standard error over teachers. *Held*: after what '
  'the claim allows ("to .01"), it has the claimed sign by more than two standard errors. *Not '
  'held*: the opposite sign by as much. All between is not decided. Equal models pass two standard '
  "errors by chance in 18 % of comparisons over three teachers, and in 30 % over two (Student's "
  't). A single teacher decides nothing, and neither does the detection of inputs that the '
  'ensemble itself does not detect. Hydra has 3.3 times the parameters of one network here, and '
  '1.8 times in its paper. On digits, checkpoints of LatentBE are selected by accuracy and all '
  'others by NLL, which is to its disadvantage in NLL. Hours are those of the compared runs, with '
  'their evaluations.'
)
