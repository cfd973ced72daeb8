"""Results as text."""

_CLASSIFICATION = (
  ('acc', 'ACC %', lambda v: f'{100 * v:.2f}'),
  ('nll', 'NLL', lambda v: f'{v:.4f}'),
  ('bs', 'Brier', lambda v: f'{v:.4f}'),
  ('ece', 'ECE %', lambda v: f'{100 * v:.2f}'),
  ('pairwise_kl', 'div. KL', lambda v: f'{v:.3f}'),
)
_REGRESSION = (
  ('rmse', 'RMSE', lambda v: f'{v:.4g}'),
  ('nll', 'NLL', lambda v: f'{v:.4f}'),
  ('crps', 'CRPS', lambda v: f'{v:.4g}'),
)
_COST = (
  ('params', 'parameters', lambda v: f'{v:,.0f}'),
  ('ms_per_example', 'ms/example', lambda v: f'{v:.3f}'),
)
_GAP = (('gap_closed/nll', 'gap closed', lambda v: f'{100 * v:.0f} %'),)


def table(results: dict) -> str:
  """The rows of a run, a line each, with the standard error over students where there are several."""
  rows = results['rows']
  regression = any('rmse' in row['metrics'] for row in rows)
  columns = (_REGRESSION if regression else _CLASSIFICATION) + _COST + _GAP
  lines = [['', *(title for _, title, _ in columns)]]
  for row in rows:
    lines.append([row['name'], *(_cell(row, key, form) for key, _, form in columns)])
  widths = [max(map(len, column)) for column in zip(*lines)]
  text = ['  '.join(_align(cell, w, i) for i, (cell, w) in enumerate(zip(line, widths))) for line in lines]
  text.insert(1, '-' * len(text[0]))
  return '\n'.join([*text, _note(results)])


def _align(cell, width, column):
  return cell.rjust(width) if column else cell.ljust(width)


def _cell(row, key, form) -> str:
  value = row['metrics'].get(key)
  if value is None:
    return '-'
  error = row['se'].get(key)
  return form(value) + (f' ± {form(error)}' if error and row['seeds'] > 1 else '')


def _note(results) -> str:
  seconds = {k: v for k, v in results['timings'].items()}
  took = ', '.join(f'{name} {value:.0f} s' for name, value in seconds.items())
  return f'gap closed: of the distance in NLL from one member to the ensemble. {took}'
