"""The page and its files, read once and served from memory."""

import functools
import hashlib
import importlib.resources
from typing import NamedTuple

# {address: (file, type)}: nothing else of the disk can be read over HTTP.
FILES = {
  '/': ('index.html', 'text/html; charset=utf-8'),
  '/page/style.css': ('style.css', 'text/css; charset=utf-8'),
  '/page/page.js': ('page.js', 'text/javascript; charset=utf-8'),
  '/page/inputs.js': ('inputs.js', 'text/javascript; charset=utf-8'),
  '/page/results.js': ('results.js', 'text/javascript; charset=utf-8'),
  '/page/icon.svg': ('icon.svg', 'image/svg+xml'),
}
# The page loads its own files alone, and no other page may show it in a frame.
SECURITY = {
  'content-security-policy': (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  ),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
}


class File(NamedTuple):
  """One file of the page."""

  content: bytes
  headers: dict[str, str]

  def is_known(self, if_none_match: str) -> bool:
    """Return whether a client that sends these tags has the file already."""
    tags = {tag.strip().removeprefix('W/') for tag in if_none_match.split(',')}
    return self.headers['etag'] in tags or '*' in tags


@functools.cache
def files() -> dict[str, File]:
  """Return {address: file}."""
  folder = importlib.resources.files('ensdistill.serving').joinpath('page')
  found = {}
  for address, (name, kind) in FILES.items():
    content = folder.joinpath(name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {'content-type': kind, 'etag': tag, 'cache-control': 'no-cache', **SECURITY}
    found[address] = File(content, headers)
  return found
