"""What a student takes, and what it says of everything else."""

import dataclasses

import numpy as np
import pytest

from ensdistill.student import inputs

from .conftest import COLUMNS, TABLE

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)


def same(found, expected):
  """Predictions agree to 1e-6 in every output."""
  for name in ('probs', 'mean', 'total', 'data', 'knowledge'):
    mine, theirs = getattr(found, name), getattr(expected, name)
    if theirs is not None:
      np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_bytes_and_floats_give_equal_predictions(image, colour):
  same(image.predict(PIXELS), image.predict(PIXELS / 255))
  x = np.random.default_rng(2).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
  same(colour.predict(x), colour.predict((x / 255).astype(np.float32)))


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int32, np.int64, np.uint16, np.uint8])
def test_a_declared_scale_is_applied(image, dtype):
  same(image.predict(PIXELS.astype(dtype), scale=1 / 255), image.predict(PIXELS))
  deep = PIXELS.astype(np.uint16) * 257
  same(image.predict(deep, scale=1 / 65535), image.predict(PIXELS))


@pytest.mark.parametrize(
  ('x', 'words'),
  [
    (PIXELS.astype(np.float32), r'images\[0\] holds .* the range is \[\d+, 25\d\].*scale=1/255 if'),
    (PIXELS.astype(np.int64), r'images hold int64 from \d+ to 25\d.*scale=1/255 if'),
    (PIXELS.astype(np.uint16) * 257, r'uint16 from \d+ to 65\d\d\d.*scale=1/65535 if'),
    (PIXELS > 99, r'images hold bool from 0 to 1.*scale=1 if'),
    (PIXELS / 255 * 2 - 1, r'holds -.*no scale= brings negative values there'),
    (PIXELS.astype(np.float32) * 1000, r'scale=1/\(the largest value'),
    (PIXELS.astype(complex), 'inputs hold complex128, not numbers'),
    (PIXELS.astype('U3'), 'inputs hold <U3, not numbers'),
    (PIXELS.astype('M8[s]'), r'inputs hold datetime64\[s\], not numbers'),
    ('photo.png', 'inputs hold str, not numbers'),
    (None, 'inputs hold NoneType, not numbers'),
    ([[1, 2], [3]], r'inputs \(list\) cannot become an array'),
    (PIXELS[..., 0, 0], r'inputs have shape \[5, 8\], the student takes \[N, 8, 8, 1\]'),
    (PIXELS[:, :4], r'inputs have shape \[5, 4, 8, 1\]'),
    (np.zeros((0, 3)), r'inputs have shape \[0, 3\]'),
    (np.float32(1), r'inputs have shape \[\]'),
    (np.ma.masked_array(PIXELS / 255, PIXELS > 3), 'inputs are a masked array'),
    ([{'a': 1.0}], r'inputs are a table with names, the student takes images \[8, 8, 1\]'),
  ],
)
def test_images_that_are_not_clear_are_refused(image, x, words):
  with pytest.raises(ValueError, match=words):
    image.predict(x)


@pytest.mark.parametrize('scale', [0, -1, np.nan, np.inf, True, '1/255', [1.0]])
def test_a_scale_is_a_positive_number(image, scale):
  with pytest.raises(ValueError, match='scale=.* must be'):
    image.predict(PIXELS, scale=scale)
  with pytest.raises(ValueError, match=r'range is .* after scale=1|after scale=1,'):
    image.predict(PIXELS, scale=1)


def test_a_table_has_no_scale(table):
  with pytest.raises(ValueError, match='scale=2 is for images'):
    table.predict(TABLE, scale=2)


def test_one_example_and_none(image, table):
  same(image.predict(PIXELS[0]), image.predict(PIXELS[:1]))
  same(image.predict(PIXELS[..., 0]), image.predict(PIXELS))  # grey images without channels
  same(image.predict(PIXELS[0, ..., 0]), image.predict(PIXELS[:1]))
  same(table.predict(TABLE[0]), table.predict(TABLE[:1]))
  for model, x in ((image, PIXELS[:0]), (image, []), (table, []), (table, TABLE[:0])):
    found = model.predict(x)
    assert found.probs.shape == (0, model.spec['targets'])
    assert found.total.shape == found.outside.shape == found.invalid.shape == (0,)


def test_one_row_and_a_thousand_give_equal_predictions(table, unnamed):
  x = np.repeat(TABLE, 17, 0)[:1000]
  for model in (table, unnamed):
    every = model.predict(x)
    for i in (0, 17, 500, 999):
      one = model.predict(x[i])
      for name in ('probs', 'mean', 'total'):
        value = getattr(every, name)
        if value is not None:
          np.testing.assert_allclose(getattr(one, name)[0], value[i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e30])
def test_rows_that_are_not_finite_are_named_or_flagged(table, unnamed, value):
  x = TABLE[:6].astype(np.float64)
  x[4, 1] = value
  with pytest.raises(ValueError, match="row 4, column 'height', holds .*on_invalid='flag'"):
    table.predict(x)
  with pytest.raises(ValueError, match=r'row 4, position \[1\]'):
    unnamed.predict(x)
  others = [0, 1, 2, 3, 5]
  for model in (table, unnamed):
    found, expected = model.predict(x, on_invalid='flag'), model.predict(TABLE[:6])
    assert found.invalid.tolist() == [False] * 4 + [True, False]
    for name in ('probs', 'mean', 'total', 'data', 'knowledge'):
      if getattr(found, name) is not None:
        assert np.isnan(getattr(found, name)[4]).all()
        np.testing.assert_allclose(getattr(found, name)[others], getattr(expected, name)[others])
  with pytest.raises(ValueError, match="unknown on_invalid 'drop'. known: error, flag"):
    table.predict(x, on_invalid='drop')


@pytest.mark.parametrize('value', [np.inf, -np.inf])
@pytest.mark.parametrize('scale', [None, 0.5])
def test_images_with_infinity_are_named_or_flagged(image, value, scale):
  x = np.full((4, 8, 8, 1), 0.5, np.float32)
  x[2, 3, 4, 0] = value
  with pytest.raises(ValueError, match=r'row 2, position \[3, 4, 0\], holds infinity'):
    image.predict(x, scale=scale)
  p = image.predict(x, scale=scale, on_invalid='flag')
  assert p.invalid.tolist() == [False, False, True, False] and np.isnan(p.probs[2]).all()


def test_images_with_nan_are_named_or_flagged(image):
  x = PIXELS / 255
  x[2, 3, 4, 0] = np.nan
  with pytest.raises(ValueError, match=r'row 2, position \[3, 4, 0\], holds NaN'):
    image.predict(x)
  assert image.predict(x, on_invalid='flag').invalid.tolist() == [0, 0, 1, 0, 0]


def test_a_prediction_that_overflows_is_refused_or_flagged(table):
  grown = {'params': _times(table.variables['params'], 1e12)}
  model = dataclasses.replace(table, variables={**table.variables, **grown})
  x = TABLE[:2] * np.array([[1], [1e15]])
  with pytest.raises(ValueError, match='row 1 is so far outside the training range that its'):
    model.predict(x)
  assert model.predict(x, on_invalid='flag').invalid.tolist() == [False, True]


def _times(tree, factor):
  import jax

  return jax.tree.map(lambda leaf: leaf * np.float32(factor), tree)


def test_rows_far_outside_the_training_range_are_marked(table, unnamed):
  low, high = TABLE.min(0), TABLE.max(0)
  width = high - low
  rows = np.stack([low, high, high + 0.49 * width, high + 0.51 * width, low - 0.51 * width])
  one = TABLE[:1].repeat(3, 0)
  one[1, 2], one[2, 0] = 1e6, -1e6
  for model in (table, unnamed):
    assert model.predict(rows).outside.tolist() == [False, False, False, True, True]
    assert model.predict(one).outside.tolist() == [False, True, True]


def test_what_is_stored(table, unnamed, image, colour):
  assert table.columns == COLUMNS and table.classes == ['no', 'yes']
  assert unnamed.columns is None and unnamed.classes is None
  assert image.spec['inputs'] == {'columns': None, 'low': [0.0], 'high': [1.0]}
  assert colour.spec['inputs']['high'] == [255.0] and colour.spec['dtype'] == 'uint8'
  stored = table.spec['inputs']
  kept = [np.isin(TABLE[:, i], stored['low'] + stored['high']).sum() for i in range(3)]
  assert min(kept) >= 2  # the ends of each range are values of the table


def test_a_student_of_an_earlier_version_predicts(table, image):
  for model, x in ((table, TABLE), (image, PIXELS)):
    older = {k: v for k, v in model.spec.items() if k not in ('inputs', 'made_by')}
    older = dataclasses.replace(model, spec=older)
    same(older.predict(x), model.predict(x))
    assert older.columns is None
  older = dataclasses.replace(table, spec={k: v for k, v in table.spec.items() if k != 'inputs'})
  assert older.predict(TABLE).outside is None


def test_only_whole_positive_blocks(image):
  with pytest.raises(ValueError, match='batch_size=0 must be at least 1'):
    image.predict(PIXELS, batch_size=0)


def test_ranges_come_from_the_inputs_alone():
  from ensdistill import data

  x = np.array([[0.0, 5.0], [1.0, 7.0], [2.0, 6.0]])
  dataset = data.join(data.from_arrays(x, np.array([0, 1, 1])), np.full((4, 2), 99.0))
  assert inputs.describe(dataset)['high'] == [2.0, 7.0]
