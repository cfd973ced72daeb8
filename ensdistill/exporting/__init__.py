"""Files of a student for other runtimes: StableHLO, ONNX, TensorFlow. Each is checked by parity.

ensdistill.exporting.write(student, 'onnx', 'student.onnx', test=x_test)
"""


def __getattr__(name):
  """`write` and `Rejected`, without importing networks for those who only load a program."""
  if name == 'write':
    from ensdistill.exporting.files import write

    return write
  if name == 'Rejected':
    from ensdistill.exporting.parity import Rejected

    return Rejected
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
