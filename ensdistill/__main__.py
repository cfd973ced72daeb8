"""python -m ensdistill: see ensdistill.cli."""

import sys

from ensdistill import cli

if __name__ == '__main__':
  sys.exit(cli.main())
