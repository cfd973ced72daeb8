"""HTML from templates: every value is escaped, and a name that is missing is an error."""

import functools

import jinja2


@functools.cache
def _environment() -> jinja2.Environment:
  return jinja2.Environment(
    loader=jinja2.PackageLoader('ensdistill.report', 'templates'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )


def render(name: str, **values) -> str:
  """Return the page of a template with these values."""
  return _environment().get_template(name).render(values)
