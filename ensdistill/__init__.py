"""ensdistill: a deep ensemble distilled into one cheap network that keeps what made it good."""

import importlib

__version__ = '0.2.0.dev0'


# Imported at first use.
MODULES = ('data', 'exporting', 'metrics', 'objectives', 'predictive', 'sklearn', 'teachers')


def __getattr__(name):
  """`ensdistill.load` without importing JAX for those who only ask for the version."""
  if name == 'load':
    from ensdistill.export import load

    return load
  if name == 'load_stablehlo':
    from ensdistill.exporting.stablehlo import load as load_stablehlo

    return load_stablehlo
  if name == 'distil':
    from ensdistill.library import distil

    return distil
  if name in ('Damaged', 'StudentError'):
    from ensdistill.storage import seals

    return getattr(seals, name)
  if name in MODULES:
    return importlib.import_module(f'{__name__}.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
