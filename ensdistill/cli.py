"""The command `ensdistill`; `python -m ensdistill` is the same."""

import os
import sys
from collections.abc import Sequence

import ensdistill
from ensdistill import names
from ensdistill.commands.usage import fail


def _train(arguments: Sequence[str]) -> None:
  from ensdistill import main

  main.main(arguments, usage='ensdistill train NAME[:VARIANT]')


def _list(arguments: Sequence[str]) -> None:
  from ensdistill.commands import listing

  listing.main(arguments)


def _config(arguments: Sequence[str]) -> None:
  from ensdistill.commands import settings

  settings.main(arguments)


def _data(arguments: Sequence[str]) -> None:
  from ensdistill.commands import data

  data.main(arguments, prog='ensdistill data')


def _evaluate(arguments: Sequence[str]) -> None:
  from ensdistill.commands import evaluate

  evaluate.main(arguments, prog='ensdistill evaluate')


def _predict(arguments: Sequence[str]) -> None:
  from ensdistill.commands import predict

  predict.main(arguments, prog='ensdistill predict')


def _export(arguments: Sequence[str]) -> None:
  from ensdistill.commands import export

  export.main(arguments, prog='ensdistill export')


def _push(arguments: Sequence[str]) -> None:
  from ensdistill.commands import push

  push.main(arguments, prog='ensdistill push')


def _serve(arguments: Sequence[str]) -> None:
  from ensdistill.commands import serve

  serve.main(arguments, prog='ensdistill serve')


def _report(arguments: Sequence[str]) -> None:
  from ensdistill.commands import report

  report.main(arguments, prog='ensdistill report')


def _sweep(arguments: Sequence[str]) -> None:
  from ensdistill.commands import sweep

  sweep.main(arguments, prog='ensdistill sweep')


# {command: (its function, one line of help)}. A command imports its module when it runs.
COMMANDS = {
  'train': (_train, 'train an ensemble and distil it: train NAME[:VARIANT]'),
  'list': (_list, 'show methods, data sets and variants'),
  'config': (_config, 'show the settings of a recipe, or all settings'),
  'data': (_data, 'show what a data set is, and some examples'),
  'sweep': (_sweep, 'run methods over settings, teachers and seeds, and compare them'),
  'evaluate': (_evaluate, 'evaluate a finished student on any data'),
  'predict': (_predict, 'predict with a finished student on images, arrays and tables'),
  'export': (_export, 'write a student as ONNX, StableHLO, ...: export STUDENT --to=onnx'),
  'push': (_push, 'upload a student to the Hugging Face Hub: push STUDENT OWNER/NAME'),
  'serve': (_serve, 'serve students over HTTP, with a page: serve STUDENT...'),
  'report': (_report, 'write one page and table over finished runs'),
}


def main(arguments: Sequence[str] | None = None) -> int:
  """Run a command with its arguments, those of the process by default; return the exit code."""
  arguments = sys.argv[1:] if arguments is None else arguments
  if not arguments or arguments[0] in ('-h', '--help', 'help'):
    print(usage())
    return 0
  name, *rest = arguments
  if name == '--version':
    print(f'ensdistill {ensdistill.__version__}')
    return 0
  if name not in COMMANDS:
    hint = names.meant(name, COMMANDS)
    fail(2, f'unknown command {name!r}{hint} `ensdistill --help` lists them.')
  run, _ = COMMANDS[name]
  try:
    run(rest)
    sys.stdout.flush()
  except KeyboardInterrupt:
    fail(130, 'stopped by SIGINT')
  except BrokenPipeError:  # the reader of a pipe has ended, as in `ensdistill list | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
  return 0


def usage() -> str:
  """Return the text of --help."""
  commands = [f'  {name:10}{about}' for name, (_, about) in COMMANDS.items()]
  return '\n'.join(
    [
      'ensdistill: distil a deep ensemble into one network.',
      '',
      'usage: ensdistill COMMAND ...   (`ensdistill COMMAND --help` shows its flags)',
      '',
      *commands,
      '',
      'example: ensdistill train hydra_digits:small --config.seed=1',
    ]
  )


if __name__ == '__main__':
  sys.exit(main())
