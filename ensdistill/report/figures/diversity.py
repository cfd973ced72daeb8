"""Disagreement of the members, in the ensemble and in the student."""

import numpy as np

from ensdistill import predictive
from ensdistill.metrics.arrays import softmax
from ensdistill.metrics.diversity import possible
from ensdistill.report.figures import style


def pairwise(log_probs_BMK) -> np.ndarray:
  """Return the mean KL(p_i || p_j) over examples: [M, M]."""
  log_probs_BMK, probs_BMK = softmax(log_probs_BMK)
  log_probs_BMK = possible(log_probs_BMK)
  own_M = np.einsum('bmk,bmk->m', probs_BMK, log_probs_BMK)
  cross_MM = np.einsum('bik,bjk->ij', probs_BMK, log_probs_BMK)
  return np.maximum(own_M[:, None] - cross_MM, 0) / len(log_probs_BMK)


def diversity(context):
  """Disagreement of each pair of members on the test set: mean KL(i || j) in nats, row i against
  column j, on one colour scale. If the student's heat map is as bright as the ensemble's, it has
  kept the ensemble's disagreement. A student without members has no heat map.
  """
  found = {}
  for name in [context.ensemble, *context.students]:
    p = context.distributions(name, 'test')[0] if name else None
    if isinstance(p, predictive.Mixture) and p.log_probs_BMK.shape[1] > 1:
      found[name] = pairwise(p.log_probs_BMK)
  if not found:
    return None
  figure, axes = style.panels(1, len(found), width=3.2, height=2.9)
  top = max(max(kl_MM.max() for kl_MM in found.values()), 1e-12)
  for ax, (name, kl_MM) in zip(axes[0], found.items()):
    members = len(kl_MM)
    image = ax.imshow(kl_MM, vmin=0, vmax=top)
    mean = kl_MM.sum() / (members * (members - 1))
    ax.set(title=f'{context.look(name).title}\nmean {mean:.2g}', xlabel='member j')
    ticks = np.arange(0, members, -(-members // 8))
    ax.set(xticks=ticks, yticks=ticks, xticklabels=ticks + 1, yticklabels=ticks + 1)
    ax.spines[:].set_visible(False)
    if members <= 8:
      for (i, j), value in np.ndenumerate(kl_MM):
        colour = 'white' if value < 0.6 * top else 'black'
        ax.text(j, i, f'{value:.2g}', color=colour, ha='center', va='center', size=7.5)
  axes[0, 0].set_ylabel('member i')
  figure.colorbar(image, ax=axes, label='KL(i || j), nats', shrink=0.85)
  return figure


def simplex(context):
  """Predictions for three inputs in the simplex of the three classes: the ensemble's members
  (triangles) and the student's distribution (dots: draws from its Dirichlet, or its own members).
  The dots of a good student spread as far as the triangles.
  """
  if not context.has_classes or context.dataset.targets != 3 or not context.ensemble:
    return None
  student = context.students[0]
  chosen = _chosen(context)
  figure, axes = style.panels(1, len(chosen), width=2.7, height=3.0)
  classes = context.dataset.classes or ('class 0', 'class 1', 'class 2')
  for ax, (title, set_name, i) in zip(axes[0], chosen):
    _triangle(ax, classes)
    theirs = _members(context.distributions(context.ensemble, set_name)[0], i)
    ours = draws(context.distributions(student, set_name)[0], i)
    few = len(ours) <= len(theirs)
    ax.plot(
      *corners(ours).T,
      '.',
      color=style.ORANGE,
      markersize=7 if few else 3,
      alpha=0.9 if few else 0.35,
      markeredgewidth=0,
      rasterized=True,
      zorder=3,
      label=context.look(student).title,
    )
    ax.plot(
      *corners(theirs).T,
      '^',
      markerfacecolor='none',
      markeredgecolor=style.BLUE,
      markersize=6,
      markeredgewidth=1.1,
      label='members of the ensemble',
    )
    ax.set_title(title, size=8.5)
  style.legend_below(figure, axes[0, 0], markerscale=2)
  figure.legends[0].legend_handles[0].set_alpha(1)  # a single dot would be pale
  return figure


def _chosen(context):
  """Return (title, set, index) of three inputs: certain, overlapping classes, disagreement."""
  unsure = context.predictions(context.ensemble, 'test')[0].uncertainties
  ratio = unsure['data'] - 3 * unsure['knowledge']
  found = [
    ('the surest test input', 'test', int(unsure['total'].argmin())),
    ('most data uncertainty', 'test', int(ratio.argmax())),
    ('most knowledge uncertainty', 'test', int(unsure['knowledge'].argmax())),
  ]
  for name in context.sets('ood/')[:1]:
    far = context.predictions(context.ensemble, name)[0].uncertainties['knowledge']
    found[2] = ('most knowledge uncertainty, OOD', name, int(far.argmax()))
  return found


def draws(p, i, count=600, seed=0) -> np.ndarray:
  """Return points [N, 3] of an example's distribution: a mixture's members, or Dirichlet draws."""
  if isinstance(p, predictive.Mixture):
    return _members(p, i)
  alpha_K = np.exp(np.clip(np.asarray(p.log_alpha_BK, np.float64)[i], -4, 30))
  return np.random.default_rng(seed).dirichlet(alpha_K, count)


def _members(mixture, i) -> np.ndarray:
  """Return the members' probabilities [M, K] of one example."""
  return np.exp(np.asarray(mixture.log_probs_BMK)[i])


def corners(probs_N3) -> np.ndarray:
  """Return barycentric coordinates [N, 3] as coordinates of the plane [N, 2]."""
  return probs_N3 @ np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])


def _triangle(ax, classes):
  edge = corners(np.eye(3)[[0, 1, 2, 0]])
  ax.plot(*edge.T, color=style.GREY, linewidth=0.8)
  for (x, y), text, place in zip(edge, classes, ('top', 'top', 'bottom')):
    ax.text(x, y + (0.04 if place == 'bottom' else -0.04), text, ha='center', va=place, size=8)
  ax.set(xlim=(-0.12, 1.12), ylim=(-0.14, 1.0), aspect='equal')
  ax.axis('off')
