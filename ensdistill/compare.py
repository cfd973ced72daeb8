"""The comparison at the end of a run: member, ensemble and student on the same inputs."""

from ensdistill.config import inputs
from ensdistill.config.build import Plan
from ensdistill.evaluation import comparison, networks
from ensdistill.evaluation.comparison import Comparison, Wanted


def compare(plan: Plan, teacher, distilled, writer) -> Comparison:
  """Evaluate the models of a run; the section `evaluate` says on what."""
  section = plan.config.evaluate
  wanted = Wanted(
    reading={**inputs.reading(plan.config.data), 'seed': plan.config.seed},
    ood=section.ood,
    shift=section.shift,
    shift_examples=section.shift_examples,
    train=section.train,
    batch=section.batch_size,
  )

  def ready(batch: int):
    settings = {'batch': batch, 'precision': section.precision}
    return networks.of_run(plan.dataset, teacher, distilled, **settings)

  return comparison.compare(plan.dataset, ready, wanted, writer)
