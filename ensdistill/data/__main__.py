"""Run `python -m ensdistill.data NAME`; see ensdistill.commands.data."""

from ensdistill.commands import data

if __name__ == '__main__':
  data.main()
