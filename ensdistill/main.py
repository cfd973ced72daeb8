"""Train and distil: python -m ensdistill.main --config=NAME[:VARIANT]."""

import sys
from collections.abc import Sequence

from ensdistill import messages, processes, stopping
from ensdistill.commands.usage import OVERWRITE, again, fail, memory_in_one_line, reason
from ensdistill.processes import ending, joining

HELP = """Train and distil: {prog} NAME[:VARIANT] [--workdir=DIR].

NAME is a recipe, such as hydra_cifar100, or the path of a config file, such as
configs/hydra_cifar100.py. `ensdistill train NAME[:VARIANT]` and
`python -m ensdistill.main --config=NAME[:VARIANT]` are the same.

  --config.SETTING=VALUE      changes a setting; `ensdistill config --all` lists them
  --workdir=DIR               is the run's folder (default: runs/NAME)
  --import=FILE.py or MODULE  imports parts of your own first (repeatable)
  --overwrite                 starts the run of that folder afresh; keeps teachers
  --coordinator=HOST:PORT --num_processes=N --process_id=I
                              share the run among N processes; TPU slices, Slurm
                              and Open MPI need none of the three

The same command again continues a run that was killed or stopped. SIGTERM and
Ctrl-C save the run first (exit codes 143 and 130); a second Ctrl-C ends it at
once. Exit codes: 2 for wrong usage, 1 for bad data or a failed run; both with
one line that says what is wrong and what to do."""


@memory_in_one_line()
def main(arguments: Sequence[str] | None = None, prog: str = 'python -m ensdistill.main') -> None:
  """Run the command with its arguments, those of the process by default."""
  arguments = list(sys.argv[1:] if arguments is None else arguments)
  if {'-h', '-help', '--help', '--helpfull', '--helpshort'} & set(arguments):
    print(HELP.format(prog=prog))
    return
  with stopping.listening():
    try:
      _run(arguments)
    except stopping.Stopped as stop:
      saved = stop.saved or 'nothing new to save'
      if not _parted():
        sys.exit(stop.code)
      fail(
        stop.code,
        f'stopped by {stop.name}: {saved}; continue with: {again(arguments, prog)}',
      )
    except Exception as error:
      _tell_all(error)
      raise
    _parted()


def _tell_all(error: Exception) -> None:
  """End all processes that share the run, after an unexpected error; a lone one does nothing."""
  if not processes.shared():
    return
  from ensdistill import memory

  if memory.exhausted(error) is None:
    ending.leave(1, messages.described(error, most=2000), error)


def _parted() -> bool:
  """Part from the processes that share the run; return whether this one was the first."""
  first = processes.first()
  ending.finish()
  return first


def _run(arguments: list[str]) -> None:
  from absl import logging

  from ensdistill.commands.arguments import configuration, place

  logging.use_absl_handler()
  logging.set_verbosity(logging.WARNING)  # hides JAX's notes on missing back ends
  overwrite = OVERWRITE in arguments
  try:
    arguments, own = place([a for a in arguments if a != OVERWRITE])
    joining.hush(own)
    config, workdir = configuration(arguments)
  except ValueError as error:
    fail(2, str(error))

  from ensdistill import run
  from ensdistill.data import DataError
  from ensdistill.training.clock import NonFinite

  try:
    run.run(run.prepare(config, workdir, overwrite, own))
    stopping.check_together('the run is finished')
  except run.UsageError as error:
    fail(2, str(error))
  except (DataError, NonFinite, OSError, ValueError) as error:
    if isinstance(error, DataError):  # a signal may also have ended processes that decode images
      kept = 'the last checkpoint is kept'
      stopping.check(kept)
      if number := stopping.asked():  # the others wait for this process, which cannot go on
        stop = stopping.Stopped(number, kept)
        fail(stop.code, f'stopped by {stop.name}: {kept}; the same command continues')
    fail(1, reason(error))


if __name__ == '__main__':
  main()
