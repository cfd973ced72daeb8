"""The model card of a student, in the format of Hugging Face: quality, use and limits."""

import html
import json
import math
from collections.abc import Mapping
from typing import Any

from ensdistill import families
from ensdistill.evaluation.gaps import percent_closed
from ensdistill.evaluation.rows import ENSEMBLE, MEMBER, STUDENTS, of_role
from ensdistill.storage import seals
from ensdistill.student import calibration

# {metric of results.json: (title, format, its name in a model index)}, in the order of the table.
METRICS: dict[str, tuple[str, str, str]] = {
  'acc': ('accuracy %', 'percent', 'accuracy'),
  'rmse': ('RMSE', '.4g', 'rmse'),
  'nll': ('NLL', '.4f', 'nll'),
  'bs': ('Brier score', '.4f', 'brier_score'),
  'crps': ('CRPS', '.4g', 'crps'),
  'ece': ('ECE %', 'percent', 'expected_calibration_error'),
  'coverage_90': ('in the 90 % interval, %', 'percent', 'coverage_90'),
  'prr': ('rejection of errors (PRR) %', '.1f', 'prediction_rejection_ratio'),
  'params': ('parameters', ',.0f', ''),
  'ms_per_example': ('ms/example', '.3g', ''),
}
_TEMPLATE = """---
{front}---

# {name}

{kind}, distilled from an ensemble of {members} networks by the method *{method}*. In one forward
pass it gives {outputs}, and splits its uncertainty into *data* (noise that more data would not
remove) and *knowledge* (what the members of the ensemble disagree about).

## Use

```python
import ensdistill  # pip install ensdistill

student = ensdistill.load('{folder}')  # a copy of this folder
p = student.predict(x)  # {example}
{use}
```

From the command line: `ensdistill predict {folder} INPUT... --out=predictions.csv`.

## Inputs

{inputs}

## Quality

{quality}

## Calibration

{calibration}

## Limits

- All figures are for data like those it was trained on ({data}). Under shift both accuracy and
  coverage fall, and knowledge uncertainty rises only as far as the ensemble's did.
- Coverage of sets and intervals is an average over examples, not a promise for every class or
  group. The validation examples also chose the checkpoint, so it can be slightly too optimistic.
- `knowledge` is a learned estimate of the ensemble's disagreement, not the ensemble's own.
- The data, their licence and their biases are those of {data}; this card does not know them.

## Made by

{made_by}
"""


def text(spec: Mapping, parameters: int) -> str:
  """Return the card as Markdown, from a student's description and its number of parameters."""
  classes = families.FAMILIES[spec['family']].has_classes
  config = spec.get(seals.MADE_BY, {}).get('config', {})
  members = config.get('teacher.members') or 'several'
  uses = ['student.predict(x, calibrated=True).probs', 'student.predict_set(x, coverage=0.9)']
  uses = uses if classes else ['student.quantiles(x, [0.05, 0.5, 0.95])']
  values = {
    'front': _front(spec, classes),
    'name': _safe(spec['name']),
    'kind': f'One network ({spec["network"]["name"]}, {parameters:,} parameters)',
    'members': _safe(members),
    'method': _safe(f'{spec["student"]["kind"]} / {spec["objective"]}'),
    'outputs': 'probabilities of classes' if classes else 'the distribution of the target',
    'folder': 'student',
    'example': f'p.{"probs" if classes else "mean"}, p.total, p.data, p.knowledge',
    'use': '\n'.join([*uses, 'p.abstain(rate=0.05)']),
    'inputs': _inputs(spec, classes),
    'quality': _quality(spec.get('results')),
    'calibration': _calibration(spec, classes),
    'data': _safe(spec['data']),
    'made_by': _made_by(spec),
  }
  return _TEMPLATE.format(**values)


def _safe(value: Any) -> str:
  """Return a name as text of one line that Markdown does not read as markup."""
  line = ' '.join(str(value).split())
  line = html.escape(line.encode('utf-8', 'backslashreplace').decode(), quote=False)
  return ''.join(f'\\{sign}' if sign in '\\`*_[]|' else sign for sign in line)


def _front(spec: Mapping, classes: bool) -> str:
  """Return the front matter, in YAML; its values are written as JSON, which is YAML."""
  kind = 'image' if len(spec['shape']) == 3 else 'tabular'
  task = f'{kind}-{"classification" if classes else "regression"}'
  front: dict[str, Any] = {
    'library_name': 'ensdistill',
    'tags': ['ensdistill', 'jax', 'flax', 'knowledge-distillation', 'uncertainty', 'calibration'],
  }
  if task != 'image-regression':  # unknown to the hub
    front['pipeline_tag'] = task
  student = (spec.get('results') or [None])[-1]
  measured = [
    {'type': known, 'value': student['metrics'][key]}
    for key, (_, _, known) in METRICS.items()
    if student and known and student['metrics'].get(key) is not None
  ]
  if measured:
    dataset = {'name': spec['data'], 'type': spec['data']}
    result = {'task': {'type': task}, 'dataset': dataset, 'metrics': measured}
    front['model-index'] = [{'name': spec['name'], 'results': [result]}]
  return ''.join(f'{name}: {json.dumps(value)}\n' for name, value in front.items())


def _inputs(spec: Mapping, classes: bool) -> str:
  """Return what the student takes, and the names of its classes."""
  shape, known = spec['shape'], spec.get('inputs') or {}
  if len(shape) == 3:
    lines = [f'Images `[N, {", ".join(map(str, shape))}]`, uint8 or floats in [0, 1].']
  else:
    lines = [f'Tables `[N, {shape[0]}]` in the units of the training data.']
  columns = known.get('columns')
  if columns:
    lines += ['', '| column | least in training | largest |', '|---|---|---|']
    ranges = list(zip(columns, known['low'], known['high']))
    lines += [f'| {_safe(name)} | {low:.6g} | {high:.6g} |' for name, low, high in ranges[:50]]
    lines += [f'| and {len(ranges) - 50} more | | |'] if len(ranges) > 50 else []
  if classes:
    names = spec['classes'] or range(spec['targets'])
    shown = ', '.join(map(_safe, list(names)[:100]))
    lines += ['', f'{spec["targets"]} classes: {shown}{", ..." if spec["targets"] > 100 else ""}.']
  return '\n'.join(lines)


def _quality(results) -> str:
  """Return the table of one member, the ensemble and the student, and the gap that it closes."""
  if not results:
    return 'Not measured in the run that made it.'
  present = [key for key in METRICS if any(r['metrics'].get(key) is not None for r in results)]
  lines = ['| | ' + ' | '.join(METRICS[key][0] for key in present) + ' |']
  lines.append('|---' * (len(present) + 1) + '|')
  for row in results:
    cells = [_cell(row['metrics'].get(key), METRICS[key][1]) for key in present]
    lines.append(f'| {_safe(row["name"])} | ' + ' | '.join(cells) + ' |')
  gaps = [_gap(results, key) for key in present]
  if any(gaps):
    lines.append('| gap closed | ' + ' | '.join(gap or '-' for gap in gaps) + ' |')
    lines += ['', 'Gap closed: 0 % is one member, 100 % the ensemble; - where they do not differ.']
  return '\n'.join(['On the test set:', '', *lines])


def _cell(value, form: str) -> str:
  if value is None:
    return '-'
  return f'{100 * value:.2f}' if form == 'percent' else f'{value:{form}}'


def _gap(results, key: str) -> str:
  values = [row['metrics'].get(f'gap_closed/{key}') for row in results]
  return next((f'{percent_closed(value)} %' for value in values if value is not None), '')


def _calibration(spec: Mapping, classes: bool) -> str:
  stored = calibration.from_json(spec.get('calibration'), spec)
  if stored is None:
    known = 'calibration' in spec
    why = 'there were no validation examples' if known else 'the student was stored without one'
    return f'None: {why}. `student.calibrate(x, y)` makes one.'
  lines = [f'From {stored.examples:,} validation examples:', '']
  if classes:
    lines.append(f'- temperature {stored.temperature:.4g}, for `predict(x, calibrated=True)`')
    lines.append('- conformal thresholds (LAC, APS), for `predict_set(x, coverage)`')
  else:
    lines.append('- conformal offsets of quantiles, for `quantiles(x, q)`')
  lines.append('- thresholds of the total uncertainty, for `predict(x).abstain(rate)`')
  measured = sentence(stored)
  return '\n'.join([*lines, '', measured] if measured else lines)


def sentence(found: calibration.Calibration) -> str:
  """Return what was measured on the test part, in a sentence; '' if nothing was."""
  test = found.test or {}
  if not {'examples', 'coverage', 'coverage_error', 'abstained'} <= test.keys():
    return ''
  what = 'Sets' if found.sets is not None else 'Intervals'
  cost = ''
  if 'size' in test:
    cost = f', with {test["size"]:.2f} classes on average'
  elif 'width' in test:
    cost = f', and are {test["width"]:.4g} wide on average'
  return (
    f'{what} of {100 * calibration.COVERAGE:.0f} % hold {100 * test["coverage"]:.1f} ± '
    f'{100 * test["coverage_error"]:.1f} % of {test["examples"]:,.0f} test examples{cost}; at a '
    f'rate of {100 * calibration.ABSTAIN:.0f} % it abstains on {100 * test["abstained"]:.1f} %. '
    'The error is binomial.'
  )


def _made_by(spec: Mapping) -> str:
  made = spec.get(seals.MADE_BY, {})
  lines = []
  for name, value in sorted(made.get('fingerprints', {}).items()):
    lines.append(f'- fingerprint of the {_safe(name)}: `{_plain(value)}`')
  versions = made.get('versions')
  if isinstance(versions, Mapping):
    listed = ', '.join(f'{_safe(name)} {_safe(value)}' for name, value in versions.items())
    lines.append(f'- {listed}')
  return '\n'.join(lines) or 'Unknown.'


def _plain(value) -> str:
  return ''.join(sign for sign in str(value) if sign.isalnum())[:64]


def rows(results, name: str) -> list[dict] | None:
  """Return the rows of results.json that a card shows: a member, the ensemble and one student."""
  own = [row for row in results if row['role'] == MEMBER or row['name'] == name]
  ensembles = of_role(results, ENSEMBLE)
  own[1:1] = ensembles[-1:]
  keys = [*METRICS, *(f'gap_closed/{key}' for key in METRICS)]
  found = [{'name': _title(row), 'metrics': _finite(row['metrics'], keys)} for row in own]
  return found or None


def _title(row: Mapping) -> str:
  """Return the name of a row; metrics of several seeds are their means."""
  seeds = row.get('seeds', 1) if row['role'] in STUDENTS else 1
  return f'{row["name"]} (mean of {seeds} seeds)' if seeds > 1 else row['name']


def _finite(metrics: Mapping, keys) -> dict[str, float]:
  """Return the metrics that are finite numbers."""
  values = {key: metrics.get(key) for key in keys}
  return {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
