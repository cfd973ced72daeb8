"""Run methods over settings, teachers and seeds, and compare them with standard errors.

METHODS are methods of `ensdistill list`, separated by commas; DATA are its data sets. A job is one
run: a method, a combination of settings, a teacher (an independent ensemble) and a seed of the
student. The same command continues a sweep that was stopped or killed, and adds what is new.

--config.path.to.setting=VALUE changes a setting of every job, as in `ensdistill train`. It does not
show in tables; --set does. --import=FILE.py imports parts and methods of your own.
"""

import argparse
import pathlib
import signal
import sys
from collections.abc import Sequence

from ensdistill.commands.usage import Parser, fail, reason

_FILES = 'tables: {0}/summary.md, .tex, .html, .csv, runs.csv   tensorboard --logdir {0}/tb'
UNFINISHED = 75  # the exit code where jobs are left
EXIT_CODES = (
  'Exit codes: 0 all jobs are done, 1 some have failed, 2 wrong usage, 75 jobs are left, '
  '130 or 143 stopped by Ctrl-C or SIGTERM (the same command continues).'
)


def main(arguments: Sequence[str] | None = None, prog: str = 'ensdistill sweep') -> None:
  """Run the command with its arguments, those of the process by default."""
  arguments = sys.argv[1:] if arguments is None else arguments
  own = [a for a in arguments if not a.startswith(('--config.', '--noconfig.'))]
  flags = [a for a in arguments if a.startswith(('--config.', '--noconfig.'))]
  options = _parser(prog).parse_args(own)
  flags = [*(f'--import={place}' for place in options.imports), *flags]
  if options.collect:
    _collect(options.collect, options.baseline)
    return
  if not options.methods or not options.data:
    fail(2, 'name METHODS and DATA: `ensdistill sweep kd,hydra digits --teachers=3 --seeds=2`')
  code = _sweep(options, flags)
  sys.stdout.flush()
  if code:
    sys.exit(code)


def _parser(prog: str) -> Parser:
  parser = Parser(
    prog=prog,
    description=__doc__,
    epilog=EXIT_CODES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('methods', nargs='?', metavar='METHODS', help='methods, separated by commas')
  add('data', nargs='?', metavar='DATA[:VARIANT]', help='data sets, separated by commas')
  add('--teachers', type=_positive, default=1, metavar='N', help='independent ensembles (1)')
  add('--seeds', type=_positive, default=1, metavar='N', help='students of each ensemble (1)')
  add('--first-seed', type=_number, metavar='N', help='seed of the first ensemble (0)')
  add(
    '--set',
    action='append',
    default=[],
    metavar='[METHOD:]PATH=V1,V2',
    help='vary a setting, of all methods or of those named; repeated: all combinations',
  )
  add(
    '--import',
    action='append',
    default=[],
    dest='imports',
    metavar='FILE',
    help='a file or module with parts and methods of your own (repeatable)',
  )
  add('--out', type=pathlib.Path, metavar='DIR', help='folder of the sweep (runs/sweep_DATA)')
  add('--baseline', metavar='METHOD', help='compare with this method (kd if it is in the sweep)')
  add('--slice-seconds', type=_positive, metavar='N', help='stop after N seconds; run again later')
  add('--parallel', type=_positive, metavar='N', help='runs at once (one on each GPU, else 1)')
  add('--retry', action='store_true', help='run failed jobs again')
  add('--status', action='store_true', help='show what is done, running, failed and left')
  add('--dry-run', action='store_true', help='show the jobs')
  add('--smoke', action='store_true', help='run a few steps of each kind; estimate the whole')
  add('--collect', type=pathlib.Path, metavar='DIR', help='write the tables of a sweep again')
  return parser


def _positive(text: str) -> int:
  number = int(text) if text.isdecimal() else 0
  if number < 1:
    raise argparse.ArgumentTypeError(f'{text!r} must be a whole number from 1')
  return number


def _number(text: str) -> int:
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'{text!r} must be a whole number from 0')
  return int(text)


def _collect(folder: pathlib.Path, baseline: str | None) -> None:
  """Write the tables of a folder of results, and print them."""
  from ensdistill.sweep import records, tables

  results = folder / 'results' if (folder / 'results').is_dir() else folder
  try:
    found = records.read_all(results)
    tables.check_baseline(found, baseline)
    print(tables.write(folder, found, baseline or _default_baseline({r['method'] for r in found})))
  except (OSError, ValueError) as error:
    fail(1, reason(error))
  print(_FILES.format(folder))


def _default_baseline(methods) -> str | None:
  return 'kd' if 'kd' in methods else None


def _sweep(options: argparse.Namespace, flags: list[str]) -> int:
  """Check, then show or run the jobs; return the exit code."""
  import jax

  from ensdistill.sweep import jobs as sweep_jobs
  from ensdistill.sweep import plan

  # The runs are processes of their own: this one leaves the accelerators to them.
  jax.config.update('jax_platforms', 'cpu')
  try:
    kinds = _kinds(options, flags)
    names = [kind.method for kind in kinds]
    if options.baseline and options.baseline not in [*names, *(kind.label for kind in kinds)]:
      known = ', '.join(dict.fromkeys(names))
      raise ValueError(f'--baseline={options.baseline} is not in this sweep: {known}')
    for kind in kinds:
      given = kind.config.teacher.outputs or kind.config.teacher.source
      if given and options.teachers > 1:
        raise ValueError(
          f'--teachers={options.teachers}: {given} is one ensemble, use --teachers=1'
        )
    plan.identify(kinds)
    folder = options.out or pathlib.Path('runs', f'sweep_{options.data.replace(":", "_")}')
    every = sweep_jobs.every(kinds, options.teachers, options.seeds)
    sweep = plan.Sweep(folder, every, flags)
    sweep.queue.check()
  except ValueError as error:
    fail(2, str(error))
  try:
    return _show_or_run(sweep, options, set(names))
  except BrokenPipeError:
    raise
  except (OSError, ValueError) as error:  # such as a full disk
    fail(1, reason(error))


def _show_or_run(sweep, options: argparse.Namespace, methods: set[str]) -> int:
  """Show the jobs or their state, or run them; return the exit code."""
  if options.dry_run:
    print('\n'.join(sweep.listing()))
    return 0
  if options.status:
    print('\n'.join(sweep.status()))
    return 0
  try:
    sweep.check()
  except ValueError as error:
    fail(2, str(error))
  if options.retry:
    sweep.queue.retry()
  return _run(sweep, options, methods)


def _run(sweep, options: argparse.Namespace, methods: set[str]) -> int:
  """Run the jobs, or a few steps of each kind; return the exit code."""
  from ensdistill.sweep import records, tables

  settings = {'parallel': options.parallel, 'seconds': options.slice_seconds}
  outcome = sweep.smoke(**settings) if options.smoke else sweep.run(**settings)
  if not options.smoke:
    baseline = options.baseline or _default_baseline(methods)
    found = [records.read(sweep.queue.result(j)) for j in sweep.jobs if sweep.queue.is_done(j)]
    if found:
      print(tables.write(sweep.folder, records.ordered(found), baseline))
      print(_FILES.format(sweep.folder))
  print('\n'.join(sweep.status(every=False)))
  if outcome.signal:
    return 128 + signal.Signals(outcome.signal).value
  return sweep.exit_code(smoke=options.smoke, unfinished=UNFINISHED)


def _kinds(options: argparse.Namespace, flags: list[str]) -> list:
  """Return the kinds of jobs; raise ValueError for whatever is unknown."""
  from ensdistill.commands.arguments import import_named
  from ensdistill.config import recipes
  from ensdistill.sweep import jobs

  import_named([flag for flag in flags if flag.startswith('--import=')])
  methods = _distinct('method', options.methods)
  for method in methods:
    if method not in recipes.METHODS:
      raise ValueError(recipes.unknown('method', method, recipes.METHODS))
  settings = [jobs.parse_set(text, methods) for text in options.set]
  for flag in flags:
    path = flag.partition('=')[0].removeprefix('--').removeprefix('no').removeprefix('config.')
    if path in jobs.OWN:
      raise ValueError(f'{flag}: the sweep decides {path}; use {jobs.OWN[path]}')
  kinds = []
  for data in _distinct('data set', options.data):
    name, _, variant = data.partition(':')
    if name not in recipes.DATA:
      raise ValueError(recipes.unknown('data set of the recipes', name, recipes.DATA))
    for method in methods:
      if not recipes.fits(method, name):
        raise ValueError(f'{method} is not for {name}, which is {recipes.DATA[name].task}')
      recipes.check_variant(f'{method}_{name}', variant)
      for chosen in jobs.combinations(settings, method):
        kinds.append(_kind(method, name, variant, chosen, flags, options.first_seed))
  return kinds


def _kind(method: str, data: str, variant: str, chosen: dict[str, str], flags, seed) -> object:
  """Return the kind of job with these settings, with their values as the configuration has them."""
  from ensdistill import names
  from ensdistill.commands.arguments import configuration
  from ensdistill.config import identity
  from ensdistill.sweep.jobs import Kind, labelled

  recipe = f'{method}_{data}' + (f':{variant}' if variant else '')
  varied = [f'--config.{path}={value}' for path, value in chosen.items()]
  seeds = [] if seed is None else [f'--config.seed={seed}']
  try:
    config, _ = configuration([recipe, *flags, *varied, *seeds], command='sweep')
  except ValueError as error:
    raise ValueError(f'{labelled(method, chosen)} on {data}: {error}') from error
  values = names.flatten(identity.to_json(config))
  return Kind(method, data, variant, {path: values[path] for path in chosen}, config)


def _distinct(kind: str, text: str) -> list[str]:
  """Return the names in 'a,b'; raise ValueError for an empty one and for repeated ones."""
  found = text.split(',')
  for name in found:
    if not name or found.count(name) > 1:
      what = f'{name!r} is named twice' if name else f'an empty {kind}'
      raise ValueError(f'{text!r}: {what}')
  return found
