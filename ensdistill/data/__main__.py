"""python -m ensdistill.data NAME: what a data set is, and a sheet of its examples."""

from ensdistill import data_command

if __name__ == '__main__':
  data_command.main()
