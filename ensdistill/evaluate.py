"""python -m ensdistill.evaluate --student=DIR: see ensdistill.commands.evaluate."""

from ensdistill.commands import evaluate

if __name__ == '__main__':
  evaluate.main()
