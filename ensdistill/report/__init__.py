"""What a run leaves behind: results.json, a table for the terminal, TensorBoard's summary."""

from ensdistill.report.results import load, write
from ensdistill.report.tables import table

__all__ = ['load', 'table', 'write']
