"""The error of a request, with its HTTP status: every refusal is one of these."""

from collections.abc import Mapping

from ensdistill import messages

# {status: what it means}: the errors that the server answers with, as /openapi.json lists them.
STATUSES: Mapping[int, str] = {
  400: 'The request cannot be read, or the student does not take these inputs or options.',
  404: 'The address, or the name of the student, is unknown.',
  405: 'The address does not take this method.',
  408: 'The request did not arrive in time.',
  413: 'The body, the image or the number of rows is larger than the limit.',
  415: 'The Content-Type is not one that the server reads.',
  431: 'The address and the headers are larger than the limit.',
  500: "The prediction failed; the server's log has the cause.",
  503: 'The server is starting, stopping or full: try again after Retry-After seconds.',
  504: 'The prediction was not ready in time.',
}


class Refused(Exception):
  """A request that gets an error as its answer.

  retry: seconds after which the client may try again.
  close: whether the connection is closed, because the rest of the request is not read.
  """

  def __init__(self, status: int, message: str, *, retry: int | None = None, close: bool = False):
    super().__init__(message)
    self.status, self.retry, self.close = status, retry, close

  @property
  def message(self) -> str:
    """The reason, in one line."""
    return messages.one_line(self, most=500)

  @property
  def headers(self) -> dict[str, str]:
    """The headers that belong to the error."""
    found = {'retry-after': str(self.retry)} if self.retry is not None else {}
    return found | ({'connection': 'close'} if self.close else {})
