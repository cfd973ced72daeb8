"""The methods of the recipes: student, objective and perturbation of each.

`settings` names settings as the command line does; a dict as a value sets a whole section.
Classification's values stand here; `recipes.make` adapts a method to regression.

Checkpoints of ensembles and students are selected by validation NLL (the default of teacher.select
and student.select), except where a method sets student.select. The selection of the papers is in
their variants.
"""

from typing import NamedTuple

from ensdistill import names
from ensdistill.config.recipes.data_sets import Settings

BOTH = ('classification', 'regression')


class Method(NamedTuple):
  """A method, described in one line, with its settings."""

  about: str
  settings: Settings
  tasks: tuple[str, ...] = BOTH
  auxiliary: bool = False  # also trains on inputs without labels, which the data set names


HYDRA_STUDENT = {'kind': 'multi_head', 'phases': 2, 'first_phase': 0.5, 'head_stages': 1}
BATCH_ENSEMBLE = {
  'kind': 'batch_ensemble',
  'factors': 'normal',
  'bias': 'member',
  'optimizer': {'factor_rate': 0.5, 'factor_decay': 'none'},
}
LATENT_BATCH_ENSEMBLE = {
  'kind': 'batch_ensemble',
  'factors': 'ones',
  'bias': 'shared',
  'view': 'averaged',
  'select': 'acc',
  'optimizer': {'factor_decay': 'one', 'factor_scale': 'members'},
}
# From 1e-3 to 1e-2 and back over two thirds of the run, then to 1e-6.
ONE_CYCLE_UNCLIPPED = {
  'name': 'adam', 'rate': 1e-2, 'schedule': 'one_cycle', 'warmup': 0.0, 'decay': 0.0, 'clip': 0.0
}  # fmt: skip
ONE_CYCLE = {**ONE_CYCLE_UNCLIPPED, 'clip': 10.0}
# The temperature is 10 up to a third of the run, and falls to 1 in the second third.
END = {'name': 'mean', 'temperature': 10.0, 'held': 1 / 3, 'end': 2 / 3}


class Methods(names.Registry):
  """Methods by name; each is a Method."""

  def __setitem__(self, name: str, part) -> None:
    if not isinstance(part, Method):
      raise ValueError(
        f'method {name!r} is a {type(part).__name__}: register recipes.Method(about, settings)'
      )
    super().__setitem__(name, part)


METHODS = Methods(
  'method',
  {
    # Controls: trained on labels, without a teacher.
    'single': Method(
      'one network on labels: the control to beat',
      {'student.kind': 'single', 'objective.name': 'none', 'objective.label_weight': 1.0},
    ),
    'be': Method(
      'a BatchEnsemble on labels',
      {'student': BATCH_ENSEMBLE, 'objective.name': 'none', 'objective.label_weight': 1.0},
    ),
    'multi_head': Method(
      'one body with one head per member, on labels',
      {'student.kind': 'multi_head', 'objective.name': 'none', 'objective.label_weight': 1.0},
    ),
    # The loss starts in the hundreds, with large gradients: Adam, as for EnD².
    'pn': Method(
      'Prior Network: labels and auxiliary inputs',
      {
        'student.kind': 'single',
        'student.select': 'acc',
        'student.optimizer': ONE_CYCLE,
        'objective.name': 'prior_network',
        'objective.label_weight': 1.0,
      },
      tasks=('classification',),
      auxiliary=True,
    ),
    # Knowledge distillation: one network learns the ensemble's mean prediction.
    'kd': Method(
      "knowledge distillation to the ensemble's mean",
      {'student.kind': 'single', 'objective.name': 'mean', 'objective.temperature': 4.0},
    ),
    'kd_gaussian': Method(
      'knowledge distillation on inputs with Gaussian noise',
      {
        'student.kind': 'single',
        'objective.name': 'mean',
        'objective.temperature': 4.0,
        'perturb.name': 'gaussian',
      },
    ),
    # Hydra: head m learns from member m.
    'hydra': Method(
      'Hydra: one body, head m learns from member m',
      {'student': HYDRA_STUDENT, 'objective.name': 'members', 'objective.temperature': 4.0},
    ),
    'hydra_gaussian': Method(
      'Hydra on inputs with Gaussian noise',
      {
        'student': HYDRA_STUDENT,
        'objective.name': 'members',
        'objective.temperature': 4.0,
        'perturb.name': 'gaussian',
      },
    ),
    'hydra_confods': Method(
      'Hydra on ConfODS inputs (no paper tried it)',
      {
        'student.kind': 'multi_head',
        'student.head_stages': 1,
        'objective.name': 'members',
        'objective.temperature': 4.0,
        'perturb.name': 'conf_ods',
        'perturb.temperature': 4.0,
      },
      tasks=('classification',),
    ),
    # EnD, the baseline of EnD²: the ensemble's mean, under the temperature schedule of EnD².
    'end': Method(
      "EnD: the ensemble's mean, as EnD² is trained",
      {
        'student.kind': 'single',
        'student.targets': 'clean_cache',
        'student.optimizer': ONE_CYCLE,
        'objective': END,
      },
      tasks=('classification',),
    ),
    'end_aux': Method(
      'EnD on auxiliary inputs, too (EnD+AUX)',
      {
        'student.kind': 'single',
        'student.targets': 'clean_cache',
        'student.optimizer': ONE_CYCLE,
        'objective': END,
      },
      tasks=('classification',),
      auxiliary=True,
    ),
    # EnD²: one network whose Dirichlet matches the members' predictions. The targets are the
    # teacher's outputs on clean images, while the student sees augmented ones.
    'end2': Method(
      "EnD²: a Dirichlet over the members' predictions",
      {
        'student.kind': 'single',
        'student.targets': 'clean_cache',
        'student.optimizer': ONE_CYCLE,
        'objective.name': 'dirichlet',
      },
      tasks=('classification',),
    ),
    'end2_aux': Method(
      'EnD²+AUX: EnD² that also trains on auxiliary inputs',
      {
        'student.kind': 'single',
        'student.targets': 'clean_cache',
        'student.optimizer': ONE_CYCLE,
        'objective.name': 'dirichlet',
      },
      tasks=('classification',),
      auxiliary=True,
    ),
    'end2_tdiv': Method(
      'EnD² on TDiv inputs (no paper tried it)',
      {
        'student.kind': 'single',
        'student.optimizer': ONE_CYCLE,
        'objective.name': 'dirichlet',
        'perturb.name': 'tdiv',
      },
      tasks=('classification',),
    ),
    # The authors' image code has the forward form. On members that nearly agree, the few examples
    # with the largest target precision dominate its loss, and short runs fail.
    'end2_proxy': Method(
      'Proxy-EnD²: matches a Dirichlet of the members',
      {
        'student.kind': 'single',
        'student.targets': 'clean_cache',
        'student.optimizer': ONE_CYCLE,
        'objective.name': 'proxy_dirichlet',
        'objective.form': 'reverse',
      },
      tasks=('classification',),
    ),
    # Distribution distillation for regression: a Normal-Wishart over the members' Gaussians.
    'nw': Method(
      "a Normal-Wishart over the members' Gaussians",
      {'student.kind': 'single', 'objective.name': 'normal_wishart'},
      tasks=('regression',),
    ),
    'nw_gaussian': Method(
      'a Normal-Wishart, on inputs with Gaussian noise',
      {'student.kind': 'single', 'objective.name': 'normal_wishart', 'perturb.name': 'gaussian'},
      tasks=('regression',),
    ),
    # Diversity Matters: a BatchEnsemble on inputs where the members disagree.
    'be_kd': Method(
      'a BatchEnsemble, member m learns from teacher m',
      {
        'student': BATCH_ENSEMBLE,
        'objective.name': 'members',
        'objective.label_weight': 0.1,
        'objective.temperature': 4.0,
      },
    ),
    'be_gaussian': Method(
      'a BatchEnsemble on inputs with Gaussian noise',
      {
        'student': BATCH_ENSEMBLE,
        'objective.name': 'members',
        'objective.label_weight': 0.1,
        'objective.temperature': 4.0,
        'perturb.name': 'gaussian',
      },
    ),
    'be_ods': Method(
      'Diversity Matters: ODS inputs',
      {
        'student': BATCH_ENSEMBLE,
        'objective.name': 'members',
        'objective.label_weight': 0.1,
        'objective.temperature': 4.0,
        'perturb.name': 'ods',
        'perturb.temperature': 4.0,
      },
    ),
    'be_confods': Method(
      'Diversity Matters: ODS scaled by confidence',
      {
        'student': BATCH_ENSEMBLE,
        'objective.name': 'members',
        'objective.label_weight': 0.1,
        'objective.temperature': 4.0,
        'perturb.name': 'conf_ods',
        'perturb.temperature': 4.0,
      },
      tasks=('classification',),
    ),
    # LatentBE: a BatchEnsemble that is averaged into one plain network.
    'latentbe': Method(
      'LatentBE: a BatchEnsemble averaged into one network',
      {'student': LATENT_BATCH_ENSEMBLE, 'objective.name': 'members', 'objective.temperature': 4.0},
    ),
    'latentbe_tdiv_sdiv': Method(
      'LatentBE on inputs where the teachers disagree',
      {
        'student': LATENT_BATCH_ENSEMBLE,
        'objective.name': 'members',
        'objective.temperature': 4.0,
        'objective.labels_on': 'perturbed',
        'perturb.name': 'tdiv_sdiv',
      },
    ),
  },
)
