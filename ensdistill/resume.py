"""What a run finds of itself in its folder: its results, or its students."""

from ensdistill import export, processes, report
from ensdistill.config import folder, identity
from ensdistill.config.build import Plan
from ensdistill.distillation import Distilled
from ensdistill.logs import writers
from ensdistill.storage import seals


def results(plan: Plan) -> dict | None:
  """Return the results of a finished run, verified; None if something has to be made again.

  A damaged student whose weights are whole is written again from them.
  """
  try:
    found = folder.results(plan.folder, identity.decisive(plan.config), seals.print_error)
    if found is None:
      return None
    if not isinstance(found.get('timings'), dict):
      raise seals.Damaged(plan.folder / 'results.json', 'is damaged (it has no timings)', '')
    _check_students(plan, found)
    page = plan.folder / 'report.html'
    if not page.exists():
      seals.print_error(f'{page} is missing: it is written again')
      report.write_pages(report.read_runs([plan.folder]), page)
  except seals.Damaged as error:
    seals.print_error(f'{error.path} {error.problem}: what is missing is made again')
    return None
  return found


def _check_students(plan: Plan, results: dict) -> None:
  """Raise StudentError if a student is damaged, unless its weights are whole: write it again."""
  sealed = seals.MADE_BY in results  # without a seal of the results, one line has said so
  try:
    export.check(plan, seals.print_error if sealed else writers.Silent().line)
  except seals.StudentError as error:
    variables = export.stored(plan)
    if variables is None:
      raise
    seals.print_error(f'{error.path} {error.problem}: it is written again')
    found = Distilled(plan.student, variables)
    export.save_all(plan, found, results.get(seals.MADE_BY), results['rows'])


def student(plan: Plan, writer) -> Distilled | None:
  """Return the students that this run has stored; None if they have to be trained."""
  variables = None

  def is_stored() -> bool:  # the first process alone reads here
    nonlocal variables
    variables = export.stored(plan)
    return variables is not None

  if not processes.agreed(is_stored, 'student'):
    return None
  writer.line(f'student: found in {plan.folder}')
  if variables is None:
    variables = export.stored(plan)
  if variables is None:
    raise seals.differs(plan.folder / 'student')
  return Distilled(plan.student, variables)
