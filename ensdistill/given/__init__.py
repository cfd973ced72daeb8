"""Ensembles that were trained elsewhere: stored outputs, or a function that computes them."""

from ensdistill.given.functions import Functions, check_gradients, from_functions, width
from ensdistill.given.load import adopt, load
from ensdistill.given.messages import about_outputs
from ensdistill.given.outputs import Outputs, Recorded, from_arrays, is_array, of_test

__all__ = [
  'Functions',
  'Outputs',
  'Recorded',
  'about_outputs',
  'adopt',
  'check_gradients',
  'from_arrays',
  'from_functions',
  'is_array',
  'load',
  'of_test',
  'width',
]
