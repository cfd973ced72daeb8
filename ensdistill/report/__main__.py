"""The command python -m ensdistill.report RUN_DIR ...: see ensdistill.commands.report."""

import sys

from ensdistill.commands import report

if __name__ == '__main__':
  sys.exit(report.main())
