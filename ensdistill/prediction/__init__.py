"""Predictions for files of any size: inputs in blocks, the columns of the results, and writers."""
