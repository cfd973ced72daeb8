"""The text format of Prometheus, by the rules of its documentation."""

from ensdistill.serving import metrics


def test_counters_and_gauges():
  own = metrics.Metrics()
  own.requests.add(metrics.labels(route='predict', status='200'))
  own.requests.add(metrics.labels(route='predict', status='200'), 2)
  own.gauge('waiting', 'Rows.', lambda: [((), 4)])
  lines = own.text().splitlines()
  assert '# TYPE ensdistill_requests_total counter' in lines
  assert 'ensdistill_requests_total{route="predict",status="200"} 3' in lines
  assert lines[-2:] == ['# TYPE waiting gauge', 'waiting 4']


def test_a_histogram_is_cumulative():
  own = metrics.Histogram('h', 'About.', (1, 2, 4))
  for value in (0.5, 1, 1.5, 4, 9):
    own.add((), value)
  found = {(suffix, dict(own).get('le')): value for suffix, own, value in own.samples()}
  assert found == {
    ('_bucket', '1'): 2, ('_bucket', '2'): 3, ('_bucket', '4'): 4, ('_bucket', '+Inf'): 5,
    ('_sum', None): 16, ('_count', None): 5,
  }  # fmt: skip


def test_memory_is_that_of_the_process():
  found = metrics.resident()
  assert found is None or 1e6 < found < 1e12
