"""The papers: the citation of each, its methods, and its experiments."""

from typing import NamedTuple

from ensdistill.config.recipes.experiments import (
  Experiment,
  diversity_matters,
  end2,
  hydra,
  latentbe,
)


class Paper(NamedTuple):
  """A paper, with {recipe: experiment}, where a recipe has its variant after a colon.

  `number` is that of the variants of its controls: paper2, paper3, paper4.
  """

  citation: str
  methods: tuple[str, ...]
  experiments: dict[str, Experiment] = {}
  number: int = 0


# Neither the ensemble nor the schedule is known: ours. The authors' image code has this form.
IMAGENET = {'objective.form': 'forward'}

PAPERS = {
  'Knowledge distillation': Paper(
    'Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531',
    ('kd', 'kd_gaussian'),
  ),
  'Prior Networks': Paper(
    'Malinin, Gales: Predictive Uncertainty Estimation via Prior Networks. NeurIPS 2018. '
    'arXiv:1802.10501',
    ('pn',),
  ),
  'BatchEnsemble': Paper(
    'Wen, Tran, Ba: BatchEnsemble: An Alternative Approach to Efficient Ensemble and Lifelong '
    'Learning. ICLR 2020. arXiv:2002.06715',
    ('be',),
  ),
  'Hydra': Paper(
    'Tran, Veeling, Roth, Swiatkowski, Dillon, Snoek, Mandt, Salimans, Nowozin, Jenatton: Hydra: '
    'Preserving Ensemble Diversity for Model Distillation. 2020. arXiv:2001.04694',
    ('multi_head', 'hydra', 'hydra_gaussian', 'hydra_confods'),
    hydra.EXPERIMENTS,
    1,
  ),
  'EnD²': Paper(
    'Malinin, Mlodozeniec, Gales: Ensemble Distribution Distillation. ICLR 2020. arXiv:1905.00076',
    ('end', 'end_aux', 'end2', 'end2_aux', 'end2_tdiv'),
    end2.EXPERIMENTS,
    2,
  ),
  'Proxy-EnD²': Paper(
    'Ryabinin, Malinin, Gales: Scaling Ensemble Distribution Distillation to Many Classes with '
    'Proxy Targets. NeurIPS 2021. arXiv:2105.06987',
    ('end2_proxy',),
    {'end2_proxy_imagenet:paper': Experiment(IMAGENET, 'not known, ours: ensemble, schedule')},
  ),
  'Regression Prior Networks': Paper(
    'Malinin, Chervontsev, Provilkov, Gales: Regression Prior Networks. 2020. arXiv:2006.11590',
    ('nw', 'nw_gaussian'),
  ),
  'Diversity Matters': Paper(
    'Nam, Yoon, Lee, Lee: Diversity Matters When Learning From Ensembles. NeurIPS 2021. '
    'arXiv:2110.14149',
    ('be_kd', 'be_gaussian', 'be_ods', 'be_confods'),
    diversity_matters.EXPERIMENTS,
    3,
  ),
  'LatentBE': Paper(
    'Nam, Lee, Heo, Lee: Improving Ensemble Distillation With Weight Averaging and Diversifying '
    'Perturbation. ICML 2022. arXiv:2206.15047',
    ('latentbe', 'latentbe_tdiv_sdiv'),
    latentbe.EXPERIMENTS,
    4,
  ),
}
