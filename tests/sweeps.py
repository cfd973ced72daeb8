"""Records of a sweep, written by hand."""

from ensdistill.evaluation import rows


def row(role, size=1, **metrics):
  se = {'nll': 0.01} if role == rows.MEMBER else {}
  metrics = {'acc': 0.9, 'params': 100, **metrics}
  name = {'name': rows.name(role, size), 'role': role, 'size': size, 'seeds': 1}
  return name | {'se': se, 'metrics': metrics}


def record(method, teacher, seed, nll, *, view='members', settings=None, **fields):
  students = [row(rows.STUDENT, nll=nll, **{'gap_closed/nll': 0.5})]
  if view == 'averaged':
    students.append(row(rows.AVERAGED, nll=nll + 0.05))
  made = {
    'format': 1,
    'method': method,
    'data': 'digits',
    'variant': 'small',
    'settings': settings or {},
    'teacher': teacher,
    'seed': seed,
    'view': view,
    'members': 4,
    'ensemble': 'e',
    'seconds': 2.5,
    'timings': {'teacher': 1.0, 'student': 1.0},
    'versions': {'processor': '2 x a processor'},
    'config': {'seed': teacher},
    'rows': [
      row(rows.MEMBER, nll=1.0 + teacher),
      row(rows.ENSEMBLE, 4, nll=0.5 + teacher),
      *students,
    ],
  }
  return made | fields


def sweep():
  """Three teachers and two seeds; hydra is better than kd by 0.1 in each pair."""
  noise = {(0, 0): 0.0, (0, 1): 0.02, (1, 0): -0.01, (1, 1): 0.01, (2, 0): 0.03, (2, 1): 0.0}
  return [
    record(method, t, s, 0.9 - gain + t + noise[t, s])
    for (t, s) in noise
    for method, gain in (('kd', 0.0), ('hydra', 0.1))
  ]
