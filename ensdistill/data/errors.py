"""What can be wrong with data; a wrong setting is a ValueError instead."""


class DataError(Exception):
  """The data are missing, damaged or mislabelled."""


class MissingData(DataError, FileNotFoundError):
  """A file or a prepared data set does not exist; the message says how to get it."""


class InputsOnly(DataError):
  """The set has inputs but nothing to train on: no labels, or no training part."""
