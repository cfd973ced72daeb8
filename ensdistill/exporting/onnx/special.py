"""Functions that ONNX lacks, in its basic operators, accurate in float32.

log1p and expm1 follow Kahan: the rounding of u = 1 + x, or of exp(x), is divided out again. digamma
and ln Gamma are asymptotic series (Abramowitz and Stegun, 6.3.18 and 6.1.41) beyond a shift by the
recurrence, and by reflection for negative arguments.
"""

import math

import numpy as np

from ensdistill.exporting.onnx.graph import Graph, Value, constant

SHIFT = 4  # from where the series are accurate in float32


class Terms:
  """Arithmetic on values, written as formulas; numbers become constants of the dtype."""

  def __init__(self, graph: Graph, like: Value):
    self._graph, self._like = graph, like

  def number(self, value: float) -> Value:
    """Return a constant."""
    return constant(np.array(value, self._like.dtype))

  def __call__(self, op: str, *terms, dtype=None) -> Value:
    """Return one operator over values and numbers."""
    values = [t if isinstance(t, Value) else self.number(t) for t in terms]
    like = self._like
    return self._graph.add(op, *values, shape=like.shape, held=like.held, dtype=dtype or like.dtype)

  def sum(self, *terms) -> Value:
    """Return the sum of two or more terms."""
    total = terms[0]
    for term in terms[1:]:
      total = self('Add', total, term)
    return total

  def where(self, condition: Value, then, otherwise) -> Value:
    """Return `then` where the condition holds."""
    return self('Where', condition, then, otherwise)

  def is_less(self, a, b) -> Value:
    """Return a < b."""
    return self('Less', a, b, dtype=bool)

  def polynomial(self, x: Value, *coefficients: float) -> Value:
    """Return c0 + x (c1 + x (c2 + ...))."""
    total = self.number(coefficients[-1])
    for c in reversed(coefficients[:-1]):
      total = self.sum(self('Mul', x, total), c)
    return total


def log1p(graph: Graph, x: Value) -> Value:
  """Return log(1 + x) = log(u) x / (u - 1) with u = 1 + x rounded."""
  t = Terms(graph, x)
  u = t('Add', x, 1.0)
  log_u, rest = t('Log', u), t('Sub', u, 1.0)
  precise = t('Mul', log_u, t('Div', x, rest))
  small = t.where(t('Equal', rest, 0.0, dtype=bool), x, precise)
  return t.where(t.is_less(t('Abs', x), 0.5), small, log_u)


def expm1(graph: Graph, x: Value) -> Value:
  """Return exp(x) - 1 = (u - 1) x / log(u) with u = exp(x) rounded."""
  t = Terms(graph, x)
  u = t('Exp', x)
  rest = t('Sub', u, 1.0)
  precise = t('Mul', rest, t('Div', x, t('Log', u)))
  small = t.where(t('Equal', rest, 0.0, dtype=bool), x, precise)
  return t.where(t.is_less(t('Abs', x), 0.5), small, rest)


def digamma(graph: Graph, x: Value) -> Value:
  """Return psi(x)."""
  t = Terms(graph, x)
  negative = t.is_less(x, 0.0)
  y = t.where(negative, t('Sub', 1.0, x), x)
  few = t.is_less(y, float(SHIFT))
  safe = t.where(few, y, 1.0)
  lost = t('Reciprocal', safe)
  for i in range(1, SHIFT):
    lost = t.sum(lost, t('Reciprocal', t('Add', safe, float(i))))
  up = t.where(few, t('Add', y, float(SHIFT)), y)
  r = t('Reciprocal', up)
  r2 = t('Mul', r, r)
  series = t.polynomial(r2, 1 / 12, -1 / 120, 1 / 252, -1 / 240)
  rest = t('Sub', t('Sub', t('Log', up), t('Mul', r, 0.5)), t('Mul', r2, series))
  psi = t('Sub', rest, t.where(few, lost, 0.0))
  # psi(x) = psi(1 - x) - pi / tan(pi x); tan has the period pi, so only the fraction enters.
  fraction = t('Sub', x, t('Floor', x))
  turn = t('Div', math.pi, t('Tan', t('Mul', fraction, math.pi)))
  return t.where(negative, t('Sub', psi, turn), psi)


def lgamma(graph: Graph, x: Value) -> Value:
  """Return ln |Gamma(x)|."""
  t = Terms(graph, x)
  negative = t.is_less(x, 0.5)
  y = t.where(negative, t('Sub', 1.0, x), x)
  few = t.is_less(y, float(SHIFT))
  safe = t.where(few, y, 1.0)
  product = safe
  for i in range(1, SHIFT):
    product = t('Mul', product, t('Add', safe, float(i)))
  up = t.where(few, t('Add', y, float(SHIFT)), y)
  r = t('Reciprocal', up)
  series = t('Mul', r, t.polynomial(t('Mul', r, r), 1 / 12, -1 / 360, 1 / 1260, -1 / 1680))
  main = t('Mul', t('Sub', up, 0.5), t('Sub', t('Log', up), 1.0))
  # (up - 1/2) ln up - up + ln(2 pi) / 2 = (up - 1/2) (ln up - 1) - 1/2 + ln(2 pi) / 2
  found = t.sum(main, series, (math.log(2 * math.pi) - 1) / 2)
  found = t('Sub', found, t.where(few, t('Log', product), 0.0))
  # Gamma(x) Gamma(1 - x) = pi / sin(pi x)
  fraction = t('Sub', x, t('Floor', x))
  sine = t('Abs', t('Sin', t('Mul', fraction, math.pi)))
  reflected = t('Sub', t('Sub', math.log(math.pi), t('Log', sine)), found)
  return t.where(negative, reflected, found)
