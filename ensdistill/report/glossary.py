"""The metrics in words and formulas: the glossary of the page and of the guide."""

from typing import NamedTuple


class Entry(NamedTuple):
  """One entry of the glossary."""

  title: str
  words: str  # one or two sentences; what is better, and of what to beware
  plain: str = ''  # the formula for a page without a typesetter
  latex: str = ''  # the formula for the guide


# {anchor: entry}, in the order of the glossary. N test examples x with labels y, K classes, M
# members; p is a model's predictive distribution, the mean over its members.
ENTRIES: dict[str, Entry] = {
  'acc': Entry(
    'Accuracy',
    'Share of the test examples whose most probable class is the label. Higher is better.',
    '(1/N) Σₙ [argmaxₖ p(k | xₙ) = yₙ]',
    r'\frac1N\sum_n [\arg\max_k p(k \mid x_n) = y_n]',
  ),
  'rmse': Entry(
    'RMSE',
    'Root of the mean squared error of the predicted mean, in the unit of the target. Lower is '
    'better.',
    '√((1/N) Σₙ (yₙ − μ(xₙ))²)',
    r'\sqrt{\frac1N\sum_n (y_n-\mu(x_n))^2}',
  ),
  'nll': Entry(
    'NLL',
    'Negative log-likelihood of the targets, in nats: punishes confident errors most. Lower is '
    'better. For regression it is that of a density, so it can be negative.',
    '−(1/N) Σₙ log p(yₙ | xₙ)',
    r'-\frac1N\sum_n \log p(y_n \mid x_n)',
  ),
  'bs': Entry(
    'Brier score',
    'Mean squared distance of the probabilities from the label, summed over classes. Lower is '
    'better.',
    '(1/N) Σₙ Σₖ (p(k | xₙ) − [k = yₙ])²',
    r'\frac1N\sum_n\sum_k (p(k\mid x_n)-[k=y_n])^2',
  ),
  'crps': Entry(
    'CRPS',
    'Continuous ranked probability score: the distance of the predicted distribution function F '
    'from the target, in the unit of the target. Lower is better.',
    '(1/N) Σₙ ∫ (Fₙ(z) − [z ≥ yₙ])² dz',
    r'\frac1N\sum_n\int (F_n(z)-[z\ge y_n])^2\,dz',
  ),
  'ece': Entry(
    'ECE',
    'Expected calibration error: the mean distance of confidence and accuracy, over 15 bins b of '
    'confidence. Lower is better. On few test examples it is biased upwards.',
    'Σ_b (n_b/N) |acc(b) − conf(b)|',
    r'\sum_b \frac{n_b}{N}\,|\mathrm{acc}(b)-\mathrm{conf}(b)|',
  ),
  'coverage_90': Entry(
    'in 90 %',
    'Share of the targets inside their central 90 % interval. It should be 90 %: higher means '
    'intervals that are too wide.',
    '(1/N) Σₙ [q₀.₀₅(xₙ) ≤ yₙ ≤ q₀.₉₅(xₙ)]',
    r'\frac1N\sum_n [q_{.05}(x_n)\le y_n\le q_{.95}(x_n)]',
  ),
  'pairwise_kl': Entry(
    'Pairwise KL divergence (div. KL)',
    'Disagreement of the members: the mean KL divergence between two members. A student with '
    'members should come close to the ensemble, neither above nor below.',
    '1/(M(M−1)) Σ_{i≠j} KL(pᵢ ‖ pⱼ)',
    r'\frac1{M(M-1)}\sum_{i\ne j}\mathrm{KL}(p_i\,\|\,p_j)',
  ),
  'cnll': Entry(
    'Calibrated NLL and ECE (cNLL, cECE)',
    'The same after temperature scaling: logits are divided by the temperature T with the lowest '
    'NLL on the validation set. It compares models without their miscalibration. T is fitted to '
    'the NLL, so the ECE may rise. Without an error on the validation set T is 1.',
    'p(k | x) ∝ exp(log p(k | x) / T)',
    r'p_T(k\mid x)\propto \exp(\log p(k\mid x)/T)',
  ),
  'classwise_ece': Entry(
    'Classwise ECE',
    'The calibration error of every class probability, not only the highest one, averaged over '
    'classes. Lower is better.',
    '(1/K) Σₖ Σ_b (n_bk/N) |freq(b, k) − prob(b, k)|',
    r'\frac1K\sum_k\sum_b\frac{n_{bk}}N|\mathrm{freq}(b,k)-\mathrm{prob}(b,k)|',
  ),
  'smooth_ece': Entry(
    'Smooth ECE',
    'A calibration error without bins: residuals are smoothed by a kernel whose width is the error '
    'itself (Błasiok and Nakkiran, 2023). Lower is better.',
  ),
  'dee': Entry(
    'DEE',
    'Deep-ensemble equivalent: the number of members whose ensemble has the same calibrated NLL, '
    'measured on the mean over subsets of members, linear in between, and at most M '
    '(Ashukha et al., 2020). Higher is better.',
    'min m: cNLL of ensembles of m members ≤ cNLL of the model',
    r'\min\{m : \mathrm{cNLL}_{\mathrm{ens}}(m)\le\mathrm{cNLL}\}',
  ),
  'shift': Entry(
    'Shifted accuracy and ECE',
    'The metric on corrupted test inputs, the mean over the kinds of corruption at severity 3 '
    'of 5.',
  ),
  'calibration_error': Entry(
    'Calibration error of regression',
    'The mean distance of the share of targets below a predicted quantile from its level. Lower is '
    'better.',
    'mean over levels q of |share(y ≤ F⁻¹(q)) − q|',
    r'\int_0^1 |\Pr(F(y)\le q)-q|\,dq',
  ),
  'sharpness_90': Entry(
    'Width of 90 %',
    'Mean width of the central 90 % interval. Of two models with the right coverage, the narrower '
    'one is better.',
  ),
  'knowledge': Entry(
    'Total, data and knowledge uncertainty',
    'Of classification in nats: total is the entropy of the mean, data the mean entropy of the '
    'members, knowledge their difference (the mutual information). Of regression: variances of '
    'the mixture, within and between members.',
    'H[mean p] = mean H[p] + knowledge',
    r'\mathcal H[\mathbb E_m p_m]=\mathbb E_m\mathcal H[p_m]+\mathcal I',
  ),
  'prr': Entry(
    'PRR',
    'Prediction rejection ratio: how far rejecting the most uncertain predictions is from random '
    '(0 %) towards rejecting all errors first (100 %). Higher is better.',
    '(AR_model − AR_random) / (AR_oracle − AR_random)',
    r'\frac{A_{\mathrm{random}}-A_{\mathrm{model}}}{A_{\mathrm{random}}-A_{\mathrm{oracle}}}',
  ),
  'aurc': Entry(
    'AURC',
    'Area under the risk-coverage curve: the mean error of the most certain predictions, over all '
    'shares that are kept. Lower is better.',
    '(1/N) Σₙ error of the n most certain predictions',
    r'\frac1N\sum_{n}\mathrm{risk}(n/N)',
  ),
  'auroc': Entry(
    'AUROC',
    'Share of the pairs of two kinds of inputs in which the right one is more uncertain: wrong and '
    'right predictions (errors AUROC), or out-of-distribution and test inputs. 50 % is chance. '
    'Higher is better. One network has no knowledge uncertainty: it is at chance there.',
    'P(u(x_out) > u(x_in)) + ½ P(u(x_out) = u(x_in))',
    r'\Pr(u(x_{\mathrm{out}})>u(x_{\mathrm{in}}))+\tfrac12\Pr(=)',
  ),
  'agreement_kl': Entry(
    'KL to ensemble',
    'The mean KL divergence from the ensemble’s prediction to the student’s. Lower is better.',
    '(1/N) Σₙ KL(p_ensemble ‖ p_student)',
    r'\frac1N\sum_n\mathrm{KL}(p_{\mathrm{ens}}\,\|\,p_{\mathrm{student}})',
  ),
  'agreement_knowledge': Entry(
    'Rank of knowledge',
    'Spearman’s rank correlation of the student’s knowledge uncertainty with the ensemble’s. '
    'Higher is better.',
  ),
  'gap_closed': Entry(
    'Gap closed',
    'The share of the distance from one member to the ensemble that the student covers: 0 is one '
    'network, 100 % the ensemble. There is none where member and ensemble differ by less than two '
    'standard errors. Below -100 % and above 1000 % only these limits are shown, because such a '
    'number says more of a small gap than of the student.',
    '(member − student) / (member − ensemble)',
    r'\frac{\mathrm{member}-\mathrm{student}}{\mathrm{member}-\mathrm{ensemble}}',
  ),
  'params': Entry('Parameters', 'Trainable parameters; of an ensemble those of all members.'),
  'flops': Entry('FLOPs', 'Floating-point operations of one forward pass, per example.'),
  'ms_per_example': Entry(
    'ms/example, ms alone, relative time',
    'Median time of a forward pass per example in batches of 128, and at batch 1 (alone); ± is '
    'half the interquartile range. Relative time: divided by that of one member in the same run.',
  ),
}
_SHARED = {
  'cece': 'cnll',
  'time_ratio': 'ms_per_example',
  'batch_1': 'ms_per_example',
  'entropy_knowledge': 'knowledge',
  'auroc_confidence': 'auroc',
  'auroc_total': 'auroc',
  'auroc_knowledge': 'auroc',
  'auroc_entropy_knowledge': 'auroc',
}


def anchor(metric: str) -> str | None:
  """Return the anchor of a metric's entry; None without an entry."""
  first, _, _ = metric.partition('/')
  if first in ('shift', 'gap_closed'):
    return first
  name = metric.rpartition('/')[2]
  name = _SHARED.get(name, name)
  return name if name in ENTRIES else None


def markdown() -> str:
  """Return all entries for the guide, in MyST Markdown."""
  parts = []
  for name, entry in ENTRIES.items():
    formula = f'\n$$\n{entry.latex}\n$$\n' if entry.latex else ''
    parts.append(f'(metric-{name})=\n## {entry.title}\n\n{entry.words}\n{formula}')
  return '\n'.join(parts)
