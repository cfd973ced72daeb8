"""The command python -m ensdistill.report RUN_DIR ...: see ensdistill.commands.report."""

from ensdistill.commands import report

if __name__ == '__main__':
  report.main()
