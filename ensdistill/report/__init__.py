"""What a run leaves behind: results.json, report.html with its pictures, TensorBoard's summary.

Command line, over any number of finished runs: python -m ensdistill.report RUN_DIR [RUN_DIR ...].
"""

from ensdistill.report.probes import collect
from ensdistill.report.results import load, write
from ensdistill.report.tables import table

__all__ = ['collect', 'load', 'table', 'write']
