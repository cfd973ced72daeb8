"""The description of the server in OpenAPI 3.1, made from the students that it serves.

https://spec.openapis.org/oas/v3.1.0
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ensdistill import runtime
from ensdistill.prediction import results
from ensdistill.serving import metrics, pages, requests
from ensdistill.serving.hosted import Hosted
from ensdistill.serving.limits import Limits
from ensdistill.serving.refused import STATUSES
from ensdistill.student.calibration import COVERAGE, KINDS, LEVELS
from ensdistill.student.inputs import LARGEST

NUMBER = {'type': 'number'}
MAYBE = {'type': ['number', 'null']}  # null: infinite, as a threshold from few examples may be
TEXT = {'type': 'string'}
FLAG = {'type': 'boolean'}
STATES = ['ready', 'starting', 'failing']
SHARE = {'type': 'number', 'minimum': LEVELS[0], 'maximum': LEVELS[-1]}


def document(students: Sequence[Hosted], limits: Limits) -> dict[str, Any]:
  """Return the document of a server."""
  paths: dict[str, Any] = {}
  for one in students:
    paths[f'/v1/models/{one.name}:predict'] = {'post': _predict(one, limits)}
    paths[f'/v1/models/{one.name}'] = {'get': _get(f'What {one.name} is', _ref('Model'))}
  paths['/v1/models'] = {'get': _get('All students', _object({'models': _list(_ref('Model'))}))}
  not_ready = 'Starting, or the last batch of `model` failed.'
  starting = {'503': _answer(not_ready, _ref('Status'), _RETRY)}
  paths['/healthz'] = {'get': _get('Whether all students are ready', _ref('Status'), starting)}
  paths['/metrics'] = {
    'get': _get('Metrics in the text format of Prometheus', TEXT, {}, metrics.TYPE)
  }
  paths['/openapi.json'] = {'get': _get('This document', {'type': 'object'})}
  for address, (_, kind) in pages.FILES.items():
    known = {'304': {'description': 'The client has the file already (If-None-Match).'}}
    about = 'A page to try the students' if address == '/' else 'A file of the page'
    paths[address] = {'get': _get(about, TEXT, known, kind)}
  return {
    'openapi': '3.1.0',
    'info': {
      'title': 'ensdistill',
      'version': runtime.versions().get('ensdistill', 'unknown'),
      'summary': 'Predictions of distilled ensembles, with their uncertainty',
      'description': 'Options go into the query. Every error is {"error": one line}.',
    },
    'paths': paths,
    'components': {
      'schemas': {
        'Error': _object({'error': TEXT}),
        'Status': _object({'status': {'enum': STATES}, 'model': TEXT}, ['model']),
        'Model': {'type': 'object', 'required': ['name', 'task', 'inputs', 'members', 'ready']},
      },
      'responses': {
        str(status): _answer(about, _ref('Error'), _RETRY if status == 503 else None)
        for status, about in STATUSES.items()
      },
    },
  }


_RETRY = {'Retry-After': {'schema': {'type': 'integer', 'minimum': 1}, 'required': True}}


def _ref(name: str) -> dict[str, str]:
  return {'$ref': f'#/components/schemas/{name}'}


def _object(properties: Mapping[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
  required = [name for name in properties if name not in optional]
  return {'type': 'object', 'properties': dict(properties), 'required': required}


def _list(items, size: int | None = None) -> dict[str, Any]:
  found = {'type': 'array', 'items': items}
  return found | ({'minItems': size, 'maxItems': size} if size is not None else {})


def _answer(about: str, schema, headers=None, kind: str = 'application/json') -> dict[str, Any]:
  found = {'description': about, 'content': {kind: {'schema': schema}}}
  return found | ({'headers': headers} if headers else {})


def _errors(*statuses: int) -> dict[str, Any]:
  return {str(status): {'$ref': f'#/components/responses/{status}'} for status in statuses}


def _get(about: str, schema, more=None, kind: str = 'application/json') -> dict[str, Any]:
  return {
    'summary': about,
    'responses': {'200': _answer(about, schema, None, kind), **_errors(405, 408, 431, 500),
                  **_errors(503), **(more or {})},
  }  # fmt: skip


def _predict(one: Hosted, limits: Limits) -> dict[str, Any]:
  binary = {'schema': {'type': 'string', 'contentMediaType': 'application/octet-stream'}}
  content = {kind: binary for kind in requests.types(one)}
  content[requests.JSON] = {'schema': _body(one, limits)}
  errors = _errors(400, 405, 408, 413, 415, 431, 500, 503, 504)
  return {
    'summary': f'Predictions of {one.name}',
    'parameters': _parameters(one),
    'requestBody': {'required': True, 'content': content},
    'responses': {'200': _answer('One prediction for each input', _predictions(one)), **errors},
  }


def _parameters(one: Hosted) -> list[dict[str, Any]]:
  """Return the options that this student takes."""
  parameters: dict[str, tuple[Any, str]] = {}
  calibrated = one.model.calibration is not None
  if calibrated and one.classes:
    parameters['calibrated'] = FLAG, 'Scale the probabilities by temperature.'
    parameters['sets'] = {'enum': list(KINDS)}, 'The kind of prediction sets.'
  if calibrated:
    parameters['coverage'] = SHARE, 'Coverage of prediction sets, or of the interval of quantiles.'
    parameters['abstain'] = SHARE, 'Mark the most uncertain inputs, at most this share.'
  if one.has_members:
    parameters['members'] = FLAG, "Add each member's own prediction."
  if not one.is_table:
    scale = {'anyOf': [{'type': 'number', 'exclusiveMinimum': 0, 'maximum': 1},
                       {'type': 'string', 'pattern': f'^{requests.PART}$'}]}  # fmt: skip
    about = 'Number that images are multiplied by, such as 1/255, to lie in the range of the body.'
    parameters['scale'] = scale, about
  return [
    {'name': name, 'in': 'query', 'required': False, 'schema': schema, 'description': about}
    for name, (schema, about) in parameters.items()
  ]


def _body(one: Hosted, limits: Limits) -> dict[str, Any]:
  """Return the schema of a JSON body."""
  rows: dict[str, Any] = {'type': 'number', 'minimum': 0, 'maximum': 1}
  if one.is_table:
    rows = {'type': 'number', 'minimum': -LARGEST, 'maximum': LARGEST}
  for size in reversed(one.shape):
    rows = _list(rows, size)
  if one.is_table and one.model.columns:
    number = {'type': 'number', 'minimum': -LARGEST, 'maximum': LARGEST}
    named = _object(dict.fromkeys(one.model.columns, number)) | {'additionalProperties': False}
    instances: dict[str, Any] = {'anyOf': [_list(rows), _list(named)]}
  else:
    instances = _list(rows)
  for own in instances.get('anyOf', [instances]):
    own['maxItems'] = limits.max_rows
  return _object({requests.INSTANCES: instances}) | {'additionalProperties': False}


def _predictions(one: Hosted) -> dict[str, Any]:
  """Return the schema of the answer."""
  targets = one.model.spec['targets']
  properties: dict[str, Any] = {}
  if one.classes:
    share = {'type': 'number', 'minimum': 0, 'maximum': 1 + 1e-6}
    properties |= {'label': {'enum': list(one.classes)}, 'confidence': share}
    properties |= {
      'probabilities': _list(share, targets),
      'set': _list({'enum': list(one.classes)}),
    }
    values = _list(share, targets)
  else:
    levels = map(results.level_name, results.levels(COVERAGE))
    properties |= {'mean': _list(NUMBER, targets)}
    properties['quantiles'] = {'type': 'object', 'additionalProperties': _list(MAYBE, targets),
                        'examples': [{name: [0.0] * targets for name in levels}]}  # fmt: skip
    values = _list(NUMBER, targets)
  properties |= dict.fromkeys(('total', 'data', 'knowledge'), MAYBE)
  properties |= {'abstain': FLAG, 'outside': FLAG, 'members': _list(values)}
  optional = ('set', 'quantiles', 'abstain', 'outside', 'members')
  classes = _list(TEXT, targets) if one.classes else {'type': 'null'}
  predictions = _list(_object(properties, optional))
  return _object({'model': {'const': one.name}, 'classes': classes, 'predictions': predictions})
