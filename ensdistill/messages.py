"""Errors of other libraries and of users' code, in one line."""


def one_line(text: object, most: int = 200) -> str:
  """Return a text as one line of at most `most` characters that UTF-8 can write."""
  line = ' '.join(str(text).split()).encode('utf-8', 'backslashreplace').decode()
  return line if len(line) <= most else f'{line[: most - 3]}...'


def described(error: BaseException, most: int = 200) -> str:
  """Return 'Type: text' of an error, with at most `most` characters of its text."""
  text, name = one_line(error, most), type(error).__name__
  return f'{name}: {text}' if text else name
