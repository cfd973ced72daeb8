"""The API's description, and requests that are drawn from it and against it."""

import copy
import fractions

import pytest
from hypothesis import HealthCheck, given, settings

from ensdistill.serving import pages, requests

schemathesis = pytest.importorskip('schemathesis')
schema_checks = pytest.importorskip('schemathesis.specs.openapi.checks')

QUICK = settings(
  max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
LONG = settings(QUICK, max_examples=300, derandomize=False)
MODES = schemathesis.GenerationMode


@pytest.fixture(scope='module')
def document(running):
  return running.request('GET', '/openapi.json')[2]


def test_everything_that_is_served_is_described(document, running, students):
  expected = {*pages.FILES, '/v1/models', '/healthz', '/metrics', '/openapi.json'}
  for name in students:
    expected |= {f'/v1/models/{name}', f'/v1/models/{name}:predict'}
  assert document['paths'].keys() == expected and document['openapi'] == '3.1.0'
  for path, methods in document['paths'].items():
    for method in methods:
      assert running.request(method.upper(), path)[0] in (200, 415)


def test_every_reference_leads_somewhere(document):
  def references(node):
    if isinstance(node, dict):
      found = [node['$ref']] if '$ref' in node else []
      return found + [one for value in node.values() for one in references(value)]
    return [one for value in node for one in references(value)] if isinstance(node, list) else []

  for one in references(document):
    place = document
    for part in one.removeprefix('#/').split('/'):
      place = place[part]


def test_options_are_those_that_a_student_takes(document, students):
  def options(name):
    own = document['paths'][f'/v1/models/{name}:predict']['post']['parameters']
    return {one['name'] for one in own}

  assert options('digits') == requests.OPTIONS.keys()
  assert options('single') == {'coverage', 'abstain'}
  assert options('colour') == {'scale'}


def case_of(document, mode):
  """Return the strategy of all requests that a document describes."""
  return schemathesis.openapi.from_dict(document).as_strategy(generation_mode=mode)


def json_alone(document):
  """Return the document without arrays and images, of which it only says that they are bytes."""
  found = copy.deepcopy(document)
  for methods in found['paths'].values():
    for own in methods.values():
      if 'requestBody' in own:
        content = own['requestBody']['content']
        own['requestBody']['content'] = {requests.JSON: content[requests.JSON]}
  return found


def is_scaled(case) -> bool:
  """Return whether images have a scale: the range in the schema is theirs after it."""
  given = (case.query or {}).get('scale')
  try:
    return given is not None and 0 < fractions.Fraction(str(given)) <= 1
  except (ValueError, ZeroDivisionError):
    return False


def validated(document, running, how) -> None:
  for mode in (MODES.POSITIVE, MODES.NEGATIVE):

    @how
    @given(case_of(json_alone(document), mode))
    def drawn(case):
      response = case.call(base_url=running.address)
      # Its list of statuses for what the schema refuses lacks 413, which too many rows get.
      otherwise = response.status_code == 413 or is_scaled(case)
      excluded = [schema_checks.negative_data_rejection] if otherwise else []
      case.validate_response(response, excluded_checks=excluded)

    drawn()
  assert running.predict('table', [[45, 1.5, 80]])[0] == 200


def test_the_document_is_true(document, running):
  validated(document, running, QUICK)


@pytest.mark.slow
def test_the_document_is_true_of_many_requests(document, running):
  validated(document, running, LONG)
