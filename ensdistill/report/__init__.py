"""The report of a run: results.json, report.html with its pictures, TensorBoard's summary."""

from ensdistill.report.opening import opening
from ensdistill.report.pages import write_pages
from ensdistill.report.probes import collect
from ensdistill.report.results import write
from ensdistill.report.runs import read_runs
from ensdistill.report.tables import table

__all__ = ['collect', 'opening', 'read_runs', 'table', 'write', 'write_pages']
