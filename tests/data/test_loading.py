"""Data sets by name: their content, their parts, and refused settings."""

import dataclasses
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from ensdistill import data
from ensdistill.config import inputs, settings
from ensdistill.data import sources


def images(size=60, shape=(6, 6, 3), classes=3, seed=0):
  """Return x, y with balanced classes."""
  random = np.random.RandomState(seed)
  x = random.randint(0, 256, (size, *shape), dtype=np.uint8)
  return x, np.arange(size) % classes


@pytest.fixture
def file(tmp_path):
  """Write an .npz of 60 training and 20 test images, with some arrays replaced or left out."""

  def write(name='set.npz', **changes):
    (x_train, y_train), (x_test, y_test) = images(), images(20, seed=1)
    arrays = dict(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test) | changes
    np.savez(tmp_path / name, **{k: v for k, v in arrays.items() if v is not None})
    return f'npz:{tmp_path / name}'

  return write


def test_digits():
  digits = data.load('digits')
  assert [len(part.x) for part in (digits.train, digits.valid, digits.test)] == [600, 200, 997]
  for x, y in (digits.train, digits.valid, digits.test):
    assert x.shape[1:] == (8, 8, 1) and x.dtype == np.float32 and y.dtype == np.int32
    assert x.min() == 0 and x.max() == 1 and set(y) == set(range(10))
  everything = np.concatenate([p.x for p in (digits.train, digits.valid, digits.test)])
  assert abs(everything.mean() * 16 - 4.884) < 1e-3  # of scikit-learn's 1,797 images
  assert (digits.targets, digits.family, digits.classes) == (10, 'categorical', tuple('0123456789'))
  assert digits.shape == (8, 8, 1)
  np.testing.assert_allclose(digits.mean, digits.train.x.mean((0, 1, 2)), rtol=1e-5)
  np.testing.assert_allclose(digits.std, digits.train.x.std((0, 1, 2)), rtol=1e-5)
  assert tuple(digits.space) == (0, 1, 1 / 255)
  assert (digits.target_mean, digits.target_std) == ((0.0,), (1.0,))
  # The seed changes nothing: members of all seeds are compared on the same examples.
  assert data.load('digits', seed=5).fingerprint == digits.fingerprint
  more = data.load('digits', valid=100)
  assert [len(more.train.x), len(more.valid.x)] == [700, 100]
  np.testing.assert_array_equal(more.test.x, digits.test.x)


def test_bundled_files_are_what_scikit_learn_reads():
  from sklearn import datasets

  x, y = datasets.load_digits(return_X_y=True)
  order = np.random.RandomState(0).permutation(len(x))[800:]
  test = data.load('digits').test
  assert (test.x.reshape(-1, 64) * 16 == x[order]).all() and (test.y == y[order]).all()
  photograph = datasets.load_sample_images().images[0]
  crop = data.load_inputs('photographs', shape=(64, 64, 3), limit=1)[0]
  windows = np.lib.stride_tricks.sliding_window_view(photograph[..., 0], (64, 64))
  assert (windows == crop[..., 0]).all((2, 3)).any()


def test_spirals_lie_on_their_curves():
  quiet = data.load('spirals', noise=0.0)
  x, y = quiet.train
  assert x.shape == (3000, 2) and np.bincount(y).tolist() == [1000] * 3
  assert len(quiet.valid.x) == 300 and len(quiet.test.x) == 3000
  # r = n^2 and the angle of (-cos, sin) is pi - (n + phi_k).
  n = np.sqrt(np.hypot(*x.T))
  turned = np.stack([-np.cos(n + 2 * np.pi * y / 3), np.sin(n + 2 * np.pi * y / 3)], 1)
  np.testing.assert_allclose(x, turned * n[:, None] ** 2, atol=0.02)
  # n = 6 pi sqrt(u): (n / 6 pi)^2 is uniform.
  u = np.sort((n / (6 * np.pi)) ** 2)
  assert np.abs(u - np.linspace(0, 1, 3000)).max() < 0.03


def test_spirals_noise_is_sigma_n_to_three_halves():
  quiet, noisy = (data.load('spirals', noise=noise, per_class=4000) for noise in (0.0, 0.25))
  n = np.sqrt(np.hypot(*quiet.train.x.T))
  scaled = (noisy.train.x - quiet.train.x) / n[:, None] ** 1.5
  np.testing.assert_allclose(scaled.std(0), 0.25, rtol=0.03)
  np.testing.assert_allclose(scaled.mean(0), 0, atol=0.01)


def test_tables_have_an_unbounded_space_in_units_of_their_deviation():
  spirals = data.load('spirals')
  assert (spirals.space.low, spirals.space.high) == (-np.inf, np.inf)
  np.testing.assert_allclose(spirals.space.unit, spirals.train.x.std(0), rtol=1e-5)
  np.testing.assert_allclose(spirals.std, spirals.space.unit, rtol=1e-6)
  np.testing.assert_allclose(spirals.mean, spirals.train.x.mean(0), rtol=1e-3)


def test_spirals_ood_is_a_circle():
  circle = data.load_inputs('spirals_ood', shape=(2,))
  radius = np.hypot(*circle.T)
  assert circle.shape == (1000, 2) and circle.dtype == np.float32
  assert abs(radius.mean() - 410) < 0.2 and 0.9 < radius.std() < 1.1
  wide = np.hypot(*data.load_inputs('spirals_ood', shape=(2,), radius=800.0, noise=100.0).T)
  assert abs(wide.mean() - 806) < 12 and 85 < wide.std() < 115


def test_toy1d_has_a_gap_and_its_function():
  quiet = data.load('toy1d', noise=0.0)
  x, y = quiet.train
  assert quiet.family == 'gaussian' and quiet.targets == 1 and y.shape == (200, 1)
  assert np.abs(x).min() >= 2 and np.abs(x).max() <= 5 and (x < 0).any() and (x > 0).any()
  np.testing.assert_allclose(y, np.sin(x) - 0.1 * x + 0.1 * x**2 + 0.01 * x**3, atol=1e-5)
  np.testing.assert_allclose(quiet.target_mean, y.mean(0), rtol=1e-4)
  np.testing.assert_allclose(quiet.target_std, y.std(0), rtol=1e-4)
  noisy = data.load('toy1d', noise=0.5, size=4000)
  assert abs((noisy.train.y - data.load('toy1d', noise=0.0, size=4000).train.y).std() - 0.5) < 0.02
  outside = np.abs(data.load_inputs('toy1d_ood', shape=(1,)))
  assert ((outside < 1.5) | (outside > 6)).all()
  with pytest.raises(ValueError, match="unknown function of toy1d 'wve': did you mean 'wave'"):
    data.load('toy1d', function='wve')


@pytest.mark.parametrize(
  'function, f', [('cubic', lambda x: x**3 / 20), ('step', lambda x: np.tanh(4 * x))]
)
def test_toy1d_of_another_function_from_a_configuration(function, f):
  section = settings.default().data
  section.update(name='toy1d', function=function, noise=0.0, size=50)
  x, y = data.load(section.name, **inputs.data_settings(section)).train
  assert x.shape == (50, 1)
  np.testing.assert_allclose(y, f(x), rtol=1e-5)
  with pytest.raises(ValueError, match="unknown setting of data set 'digits'"):
    data.load('digits', **inputs.data_settings(section))


def test_diabetes_has_twenty_splits_in_their_own_units():
  first, second = data.load('diabetes'), data.load('diabetes', split=1)
  assert [len(p.x) for p in (first.train, first.valid, first.test)] == [359, 39, 44]
  assert first.train.x.shape[1] == 10 and 18 < first.train.x[:, 0].min() < 30  # age in years
  assert not np.array_equal(first.test.x, second.test.x)
  assert abs(first.target_mean[0] - 152) < 10
  with pytest.raises(ValueError, match=r'data.split=20: diabetes has 20 split\(s\)'):
    data.load('diabetes', split=20)


def test_seeds_draw_other_toys_and_the_same_seed_the_same():
  one, same, other = (data.load('spirals', seed=seed) for seed in (0, 0, 1))
  assert one.fingerprint == same.fingerprint != other.fingerprint
  np.testing.assert_array_equal(one.train.x, same.train.x)
  assert not set(map(bytes, one.train.x)) & set(map(bytes, one.test.x))


def test_npz_images_are_cut_into_a_seeded_tenth(file):
  loaded = data.load(file())
  x_train, y_train = images()
  assert [len(p.x) for p in (loaded.train, loaded.valid, loaded.test)] == [54, 6, 20]
  assert loaded.train.x.dtype == np.uint8 and loaded.targets == 3
  pool = [*map(bytes, loaded.train.x), *map(bytes, loaded.valid.x)]
  assert sorted(pool) == sorted(map(bytes, x_train))
  # Images keep their labels.
  label = dict(zip(map(bytes, x_train), y_train))
  assert [label[bytes(x)] for x in loaded.valid.x] == loaded.valid.y.tolist()
  as_seen = loaded.train.x / 255
  np.testing.assert_allclose(loaded.mean, as_seen.mean((0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(loaded.std, as_seen.std((0, 1, 2)), rtol=1e-6)
  assert data.load(file(), seed=1).fingerprint != loaded.fingerprint
  assert len(data.load(file(), valid=20).valid.x) == 20


def test_npz_keeps_its_own_validation_split(file):
  x, y = images(12, seed=2)
  path = file(x_valid=x, y_valid=y)
  loaded = data.load(path)
  np.testing.assert_array_equal(loaded.valid.x, x)
  assert len(loaded.train.x) == 60
  assert np.bincount(data.load(path, valid=6).valid.y).tolist() == [2, 2, 2]
  with pytest.raises(ValueError, match='data.valid=13: .* has 12 examples'):
    data.load(path, valid=13)


def test_npz_float_images_grey_images_and_named_classes(file):
  (x, y), (x_test, _) = images(), images(20, seed=1)
  path = file(
    x_train=x[..., 0] / 255.0,
    x_test=x_test[..., 0] / 255.0,
    y_train=y[:, None],
    classes=list('abc'),
  )
  loaded = data.load(path)
  assert loaded.shape == (6, 6, 1) and loaded.train.x.dtype == np.float32
  assert loaded.train.y.shape == (54,) and loaded.classes == ('a', 'b', 'c')


def test_npz_with_many_splits(tmp_path):
  random = np.random.RandomState(0)
  x, y = random.randn(43, 4), random.randn(43)
  mask = random.rand(5, 43) < 0.2
  np.savez(tmp_path / 'uci.npz', x=x, y=y, test_mask=np.packbits(mask, axis=1))
  for split in (0, 4):
    loaded = data.load('npz:uci.npz', dir=str(tmp_path), split=split)
    np.testing.assert_array_equal(loaded.test.x, x[mask[split]].astype(np.float32))
    np.testing.assert_array_equal(loaded.test.y[:, 0], y[mask[split]].astype(np.float32))
    rest = np.concatenate([loaded.train.x, loaded.valid.x])
    assert len(rest) == 43 - mask[split].sum()
    assert not set(map(bytes, rest)) & set(map(bytes, loaded.test.x))
  assert loaded.family == 'gaussian'
  with pytest.raises(ValueError, match=r'data.split=5: .*uci.npz has 5 split\(s\)'):
    data.load('npz:uci.npz', dir=str(tmp_path), split=5)
  np.savez(tmp_path / 'uci.npz', x=x, y=y, test_mask=mask)
  with pytest.raises(data.DataError, match=r'test_mask is bool of shape \(5, 43\)'):
    data.load('npz:uci.npz', dir=str(tmp_path))
  for arrays in ({'x': x}, {'y': y}, {'x_train': x, 'y_train': y}):
    np.savez(tmp_path / 'uci.npz', test_mask=mask, **arrays)
    with pytest.raises(data.DataError, match='uci.npz has test_mask without x or y: store x, y'):
      data.load('npz:uci.npz', dir=str(tmp_path))


def test_limit_keeps_a_seeded_balanced_subset(file):
  y = np.repeat([0, 1, 2], [50, 6, 4])
  path = file(y_train=y, x_valid=images(9)[0], y_valid=images(9)[1])
  few = data.load(path, limit=12)
  assert np.bincount(few.train.y).tolist() == [4, 4, 4]
  assert len(few.valid.x) == 9 and len(few.test.x) == 12
  assert np.bincount(data.load(path, limit=20).train.y).tolist() == [10, 6, 4]
  assert data.load(path, limit=12).fingerprint == few.fingerprint
  assert data.load(path, limit=12, seed=1).fingerprint != few.fingerprint
  assert data.load(path, limit=10**6).fingerprint == data.load(path).fingerprint
  # Rows keep their labels, and their order.
  label = {bytes(x): (i, k) for i, (x, k) in enumerate(zip(images()[0], y))}
  found = [label[bytes(x)] for x in few.train.x]
  assert [k for _, k in found] == few.train.y.tolist() and found == sorted(found)
  assert len(data.load('toy1d', limit=7).train.x) == 7
  with pytest.raises(ValueError, match='data.limit=-1'):
    data.load('digits', limit=-1)


def test_cifar_validates_on_its_last_images_and_has_the_published_constants(tmp_path, file):
  file('cifar10.npz')
  cifar = data.load('cifar10', dir=str(tmp_path), valid=10)
  np.testing.assert_array_equal(cifar.train.x, images()[0][:50])
  np.testing.assert_array_equal(cifar.valid.x, images()[0][50:])
  assert cifar.mean == (0.4914, 0.4822, 0.4465) and cifar.std == (0.2470, 0.2435, 0.2616)
  for name in ('cifar10', 'cifar100'):
    assert sources.BENCHMARKS[name]['valid'] == 5000


def test_constant_channels_have_a_deviation_of_one(file):
  x = images()[0].copy()
  x[..., 1] = 7
  loaded = data.load(file(x_train=x))
  assert loaded.std[1] == 1 and loaded.mean[1] == pytest.approx(7 / 255)
  assert 0.2 < loaded.std[0] < 0.4
  random = np.random.RandomState(0)
  table = random.randn(60, 3) * [1, 0, 1e-9] + [1e5, 288.1, 0]
  noise = np.where(random.rand(60) < 0.5, 1, 1 + 2e-16)[:, None] * [1, 1, 1]
  loaded = data.load(
    file(x_train=table * noise, x_test=table[:20], y_train=random.randn(60), y_test=table[:20, 0])
  )
  assert loaded.std[1] == 1 and loaded.space.unit[1] == 0
  assert loaded.std[0] == pytest.approx(1, rel=0.3) and loaded.std[2] == pytest.approx(
    1e-9, rel=0.3
  )


def test_join_appends_inputs_without_labels(file):
  base = data.load(file())
  extra = images(5, seed=9)[0]
  joined = data.join(base, extra)
  np.testing.assert_array_equal(joined.train.x, np.concatenate([base.train.x, extra]))
  assert joined.train.y.tolist() == [*base.train.y, *[-1] * 5]
  assert joined.train.y.dtype == np.int32 and joined.train.x.dtype == np.uint8
  assert joined.fingerprint != base.fingerprint
  assert joined.mean == base.mean and joined.valid.x is base.valid.x
  assert (base.auxiliary, joined.auxiliary, data.join(joined, extra).auxiliary) == (0, 5, 10)
  as_float = data.join(base, (extra / 255).astype(np.float32))
  assert as_float.fingerprint == joined.fingerprint
  with pytest.raises(ValueError, match=r'load them with shape=\(6, 6, 3\)'):
    data.join(base, extra[..., :1])
  toy = data.load('toy1d')
  joined = data.join(toy, data.load_inputs('toy1d_ood', shape=(1,), part='train'))
  assert np.isnan(joined.train.y[200:]).all() and not np.isnan(joined.train.y[:200]).any()


def test_inputs_take_the_shape_and_dtype_that_are_wanted(tmp_path, file):
  file('mnist.npz', x_train=None, y_train=None, y_test=None)
  inputs = data.load_inputs('mnist', dir=str(tmp_path), shape=(3, 3, 1), dtype=np.float32)
  assert inputs.shape == (20, 3, 3, 1) and inputs.dtype == np.float32 and inputs.max() <= 1
  luma = images(20, seed=1)[0] @ np.array([0.299, 0.587, 0.114]) / 255
  np.testing.assert_allclose(
    inputs[..., 0], luma.reshape(20, 3, 2, 3, 2).mean((2, 4)), atol=1.01 / 255
  )
  assert data.load_inputs('mnist', dir=str(tmp_path), shape=(6, 6, 3), limit=4).shape[0] == 4
  with pytest.raises(ValueError, match=r"'spirals_ood' has inputs of shape \(2,\)"):
    data.load_inputs('spirals_ood', shape=(8, 8, 1))


def test_out_of_distribution_sets_of_the_digits():
  digits = data.load('digits')
  loaded = {
    name: data.load_inputs(name, shape=digits.shape) for name in data.OOD_DEFAULTS['digits']
  }
  np.testing.assert_array_equal(loaded['digits_inverted'], 1 - digits.test.x)
  crops = loaded['photographs']
  assert crops.shape == (1000, 8, 8, 1) and crops.dtype == np.uint8
  assert len(np.unique(crops.reshape(1000, -1), axis=0)) > 990
  assert data.load_inputs('photographs', shape=(32, 32, 3), limit=10).shape == (10, 32, 32, 3)
  # Auxiliary inputs come from another photograph than test inputs.
  train = data.load_inputs('photographs', shape=digits.shape, part='train')
  assert not set(map(bytes, crops)) & set(map(bytes, train))
  for found in loaded.values():
    assert data.join(digits, found).train.x.dtype == np.float32


def test_every_default_is_a_known_name():
  for name, others in data.OOD_DEFAULTS.items():
    for known in (name, *others):
      assert known in sources.BUILT_IN or known in sources.BENCHMARKS


def test_as_input_is_float32_in_the_unit_interval():
  seen = data.as_input(np.array([[0, 255, 51]], np.uint8))
  assert seen.dtype == jnp.float32
  np.testing.assert_allclose(seen, [[0, 1, 0.2]], rtol=1e-6)
  passed = data.as_input(np.array([[-3.0, 300.0]]))
  assert passed.dtype == jnp.float32 and passed.tolist() == [[-3.0, 300.0]]


def test_a_fingerprint_holds_every_array_and_constant():
  base = data.load('toy1d')
  changed = [
    dataclasses.replace(base, **{part: data.Split(split.x + shift, split.y + 1 - shift)})
    for part in ('train', 'valid', 'test')
    for split in [getattr(base, part)]
    for shift in (0, 1)
  ] + [dataclasses.replace(base, std=(2.0,)), dataclasses.replace(base, mean=(2.0,))]
  found = {data.fingerprint(dataset) for dataset in (base, *changed)}
  assert len(found) == 9 and data.fingerprint(base) == base.fingerprint


def test_unknown_names_and_settings_are_usage_errors(tmp_path):
  for name, near in (('digit', 'digits'), ('cifar', 'cifar10'), ('npz', 'npz:FILE'), ('', '.')):
    with pytest.raises(ValueError, match=f'unknown data set {name!r}.*{near}'):
      data.load(name, dir=str(tmp_path))
  with pytest.raises(ValueError, match="'nois': did you mean 'noise'"):
    data.load('spirals', nois=1)
  with pytest.raises(ValueError, match="'noise'"):
    data.load('npz:nothing.npz', noise=1)
  with pytest.raises(ValueError, match="unknown part 'tst'"):
    data.load_inputs('digits', shape=(8, 8, 1), part='tst')
  with pytest.raises(ValueError, match="unknown data.unreadable 'ignore'"):
    data.load_inputs('digits', shape=(8, 8, 1), unreadable='ignore')
  for valid in (-1, 800):
    with pytest.raises(ValueError, match=f'data.valid={valid}: digits has 800'):
      data.load('digits', valid=valid)


def test_importing_data_is_quick():
  heavy = ('tensorflow_datasets', 'sklearn', 'tensorflow', 'PIL', 'matplotlib')
  code = f'import sys, ensdistill.data; print([m for m in {heavy} if m in sys.modules])'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == '[]'


def test_columns_of_other_tables_are_matched_by_name(tmp_path):
  table = 'a,b,y\n' + ''.join(f'{i},{1000 + i},{i % 2}\n' for i in range(40))
  (tmp_path / 'own.csv').write_text(table)
  (tmp_path / 'other.csv').write_text('b,y,a\n' + '1000,0,1\n' * 20 + '1001,1,2\n' * 20)
  own = data.load(f'csv:{tmp_path}/own.csv', valid=4, target='y')
  form = {'shape': own.shape, 'columns': own.columns}
  other = data.load_inputs(f'csv:{tmp_path}/other.csv', **form)
  assert own.columns == ('a', 'b') and other[:, 0].max() == 2 and other[:, 1].min() == 1000
  with pytest.raises(data.DataError, match="has no column 'c': it needs a, c"):
    data.load_inputs(f'csv:{tmp_path}/other.csv', shape=(2,), columns=('a', 'c'))


def test_arrays_without_labels_have_a_validation_part():
  found = data.from_arrays(
    np.zeros((20, 2)), None, valid=4, classes=3, columns=np.array(['a', 'b'])
  )
  assert len(found.valid.x) == 4 and found.columns == ('a', 'b')
