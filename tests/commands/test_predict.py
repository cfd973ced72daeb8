"""`ensdistill predict`: equal to the library's predictions; bad inputs; wrong usage."""

import csv
import io
import json
import sys

import numpy as np
import PIL.Image
import pytest
import tiny

from ensdistill import cli, data, export
from ensdistill.commands import predict
from ensdistill.prediction import sources


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  plan = tiny.plan(tiny.config(), tiny.dataset(), tmp_path_factory.mktemp('runs'))
  export.save_all(plan, tiny.untrained(plan)[1])
  return plan.folder


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  random = np.random.default_rng(0)
  x = random.normal(size=(200, 2))
  y = x.sum(1) + random.normal(size=200)
  dataset = data.from_arrays(x, y, valid=100, columns=['a', 'b'])
  config = tiny.config(student__kind='multi_head', student__members=3, objective__name='members')
  plan = tiny.plan(config, dataset, tmp_path_factory.mktemp('runs'))
  export.save_all(plan, tiny.untrained(plan)[1])
  return plan.folder / 'student'


def run(*arguments, capsys):
  """Return (exit code, output, errors) of the command."""
  try:
    code = cli.main(['predict', *map(str, arguments)])
  except SystemExit as error:
    code = error.code
  found = capsys.readouterr()
  return code, found.out, found.err


def test_images_in_folders_of_classes(images, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(sources, 'BLOCK_ROWS', 4)
  random, x = np.random.default_rng(0), []
  for number in range(11):
    folder = tmp_path / str(number % 3)
    folder.mkdir(exist_ok=True)
    x.append(random.integers(0, 256, (8, 8, 1), np.uint8))
    PIL.Image.fromarray(x[-1][..., 0]).save(folder / f'{number:02d}.png')
  (tmp_path / '2' / '05.png').write_bytes(b'broken')
  out = tmp_path / 'out.jsonl'
  flags = ('--coverage=.9', '--abstain=.5', '--calibrated', f'--out={out}')
  code, _, err = run(images, tmp_path, *flags, capsys=capsys)
  assert code == 1 and 'images in folders named after classes' in err and 'of 10 ' in err
  assert '1 of 11 rows have an error, the first is' in err and 'cannot identify' in err
  found = [json.loads(line) for line in out.read_text().splitlines()]
  place = {int(row['input'][-6:-4]): row for row in found}
  model = export.load(images / 'student')
  p = model.predict(np.stack(x), calibrated=True)
  for number, row in place.items():
    if number == 5:
      assert row['error'] and row['label'] is None
      continue
    np.testing.assert_allclose([row[f'p_{k}'] for k in range(3)], p.probs[number], atol=1e-6)
    assert row['label'] == str(p.probs[number].argmax()) and row['error'] is None
    assert row['abstain'] == p.abstain(0.5)[number]
    members = [str(k) for k in np.flatnonzero(p.predict_set(0.9)[number])]
    assert row['set'] == '|'.join(members)


def test_a_table_by_name_to_standard_output(table, tmp_path, capsys):
  x = np.random.default_rng(1).normal(size=(5, 2))
  lines = ['b,id,a', *(f'{b},{i},{a}' for i, (a, b) in enumerate(x)), 'word,6,1']
  (tmp_path / 'x.csv').write_text('\n'.join(lines))
  code, out, err = run(table, tmp_path / 'x.csv', '--abstain=.1', capsys=capsys)
  assert code == 1 and "column 'b' holds 'word'" in err
  found = list(csv.DictReader(io.StringIO(out)))
  model = export.load(table)
  p = model.predict(x)
  quantiles = model.quantiles(x, [0.05, 0.5, 0.95])
  for row, got in enumerate(found[:5]):
    assert float(got['mean']) == pytest.approx(p.mean[row, 0], rel=1e-5)
    assert float(got['knowledge']) == pytest.approx(p.knowledge[row], rel=1e-5)
    for name, quantile in zip(('q05', 'q50', 'q95'), quantiles):
      assert float(got[name]) == pytest.approx(quantile[row, 0], rel=1e-5)
  assert found[5]['mean'] == '' and found[5]['error']


def test_ranges_are_checked_and_scale_is_used(images, tmp_path, capsys):
  x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.float32)
  x[0, 0, 0, 0] = 255
  np.save(tmp_path / 'x.npy', x)
  code, out, err = run(images, tmp_path / 'x.npy', capsys=capsys)
  assert code == 1 and 'scale=1/255' in err and len(out.splitlines()) == 2
  code, out, _ = run(images, tmp_path / 'x.npy', '--scale=1/255', capsys=capsys)
  probs = export.load(images / 'student').predict(x.astype(np.uint8)).probs
  found = list(csv.DictReader(io.StringIO(out)))
  assert code == 0
  np.testing.assert_allclose([float(r['confidence']) for r in found], probs.max(1), atol=1e-6)


def test_scale_is_used_on_every_array_and_on_no_image_file(images, tmp_path, capsys):
  x = np.random.default_rng(0).integers(0, 2, (2, 8, 8, 1)).astype(np.uint8)
  np.save(tmp_path / 'x.npy', x)
  PIL.Image.fromarray(x[0, ..., 0]).save(tmp_path / 'x.png')
  inputs = [tmp_path / 'x.npy', tmp_path / 'x.png']
  code, out, _ = run(images, *inputs, '--scale=1', capsys=capsys)
  model = export.load(images / 'student')
  expected = np.append(model.predict(x, scale=1.0).probs, model.predict(x[0]).probs, 0).max(1)
  found = [float(row['confidence']) for row in csv.DictReader(io.StringIO(out))]
  assert code == 0
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_block_that_is_refused_is_found_in_its_file(images, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(sources, 'BLOCK_ROWS', 4)
  x = np.full((6, 8, 8, 1), 0.5, np.float32)
  x[5, 0] = 7
  np.save(tmp_path / 'x.npy', x)
  code, out, _ = run(images, tmp_path / 'x.npy', capsys=capsys)
  found = list(csv.DictReader(io.StringIO(out)))
  assert code == 1 and len(found) == 5
  assert 'x.npy[4] on: images[1] holds 7' in found[-1]['error']


@pytest.mark.parametrize('ending', ['csv', 'jsonl', 'parquet'])
def test_an_empty_input_gives_an_empty_result(images, table, ending, tmp_path, capsys):
  if ending == 'parquet':
    pytest.importorskip('pyarrow')
  np.save(tmp_path / 'x.npy', np.zeros((0, 8, 8, 1), np.uint8))
  (tmp_path / 'x.csv').write_text('a,b\n')
  out = tmp_path / f'out.{ending}'
  for folder, name in ((images, 'x.npy'), (table, 'x.csv')):
    code, _, err = run(folder, tmp_path / name, f'--out={out}', '--abstain=.1', capsys=capsys)
    assert code == 0 and not err and out.exists()
  if ending == 'csv':
    assert out.read_text().startswith('input,mean,q05,')
  elif ending == 'parquet':
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(out)
    assert found.num_rows == 0 and str(found.schema.field('mean').type) == 'double'


def test_nothing_is_lost_beside_a_bad_file(images, tmp_path, capsys):
  x = np.zeros((2, 8, 8, 1), np.uint8)
  np.save(tmp_path / 'a.npy', x)
  (tmp_path / 'b.npy').write_bytes(b'nothing')
  flawed = np.zeros((2, 8, 8, 1), np.float32)
  flawed[1, 0] = np.nan
  np.save(tmp_path / 'c.npy', flawed)
  inputs = [tmp_path / f'{name}.npy' for name in 'abcd']
  code, out, err = run(images, *inputs, capsys=capsys)
  found = list(csv.DictReader(io.StringIO(out)))
  assert code == 1 and '3 of 6 rows' in err
  assert [bool(row['error']) for row in found] == [False, False, True, False, True, True]
  assert 'NaN' in found[4]['error'] and 'does not exist' in found[5]['error']


def test_standard_input(images, tmp_path, capsys, monkeypatch):
  array = io.BytesIO()
  np.save(array, np.zeros((3, 8, 8, 1), np.uint8))
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(array.getvalue())))
  code, out, _ = run(images, '-', capsys=capsys)
  assert code == 0 and len(out.splitlines()) == 4


@pytest.mark.parametrize(
  ('arguments', 'why'),
  [
    (['--out=x.xlsx'], 'must end in one of'),
    (['--coverage=1.5'], 'coverage'),
    (['--scale=a'], 'scale'),
    (['--scale=1/0'], 'scale'),
    (['--scale=-1'], 'scale'),
    (['--batch_size=0'], 'at least 1'),
    (['--coverag=.9'], "did you mean '--coverage'"),
    (['-', '-'], '- can be given once'),
  ],
)
def test_wrong_usage(images, arguments, why, capsys):
  code, _, err = run(images, 'x.npy', *arguments, capsys=capsys)
  assert code == 2 and why in err and err.count('\n') == 1


def test_names_after_two_dashes_are_no_flags(images, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('-odd.png', '--odd.png'):
    PIL.Image.new('L', (8, 8)).save(tmp_path / name)
    code, out, err = run('--abstain=.1', images, '--', name, capsys=capsys)
    assert code == 0 and f'{name},' in out, err
  code, _, err = run(images, '--odd.png', capsys=capsys)
  assert code == 2 and "unknown argument '--odd.png'" in err


def test_a_wrong_limit_on_pixels_is_wrong_usage(images, tmp_path, capsys, monkeypatch):
  PIL.Image.new('L', (8, 8)).save(tmp_path / 'x.png')
  monkeypatch.setenv('ENSDISTILL_MAX_PIXELS', '2e8')
  code, out, err = run(images, tmp_path / 'x.png', capsys=capsys)
  assert code == 2 and not out and "ENSDISTILL_MAX_PIXELS='2e8' must be a whole number" in err


def test_arrays_have_no_right_labels(images, tmp_path, capsys):
  folder = tmp_path / '1'
  folder.mkdir()
  arrays = folder / 'one.npy', folder / 'two.npy'
  np.save(arrays[0], np.zeros((8, 8, 1), np.uint8))
  np.save(arrays[1], np.zeros((2, 8, 8, 1), np.uint8))
  code, _, err = run(images, *arrays, capsys=capsys)
  assert code == 0 and 'accuracy' not in err
  PIL.Image.new('L', (8, 8)).save(folder / 'x.png')
  code, _, err = run(images, *arrays, folder, capsys=capsys)
  assert code == 0 and ' of 1 images in folders named after classes' in err


def test_what_the_student_lacks(images, table, tmp_path, capsys):
  x = tmp_path / 'x.npy'
  np.save(x, np.zeros((2, 8, 8, 1), np.uint8))
  assert '--scale is for images' in run(table, x, '--scale=1', capsys=capsys)[2]
  for option, words in (
    ('--coverage=2', "'2' must be a number between 0 and 1, such as 0.9"),
    ('--abstain=x', "'x' must be a number between 0 and 1, such as 0.9"),
    ('--scale=abc', "'abc' must be a positive number, such as 1/255"),
    ('--sets=aps', '--sets is for classifiers'),
  ):
    code, _, err = run(table, x, option, capsys=capsys)
    assert code == 2 and words in err, err
  assert '--sets has no effect without coverage' in run(images, x, '--sets=aps', capsys=capsys)[2]
  assert '--calibrated is for classifiers' in run(table, x, '--calibrated', capsys=capsys)[2]
  code, _, err = run(images, x, f'--out={tmp_path / "x.npy"}', capsys=capsys)
  assert code == 2 and 'must end' in err
  model = export.load(images / 'student').with_calibration(None)
  model.save(tmp_path / 'student')
  code, _, err = run(tmp_path, x, '--abstain=.1', capsys=capsys)
  assert code == 2 and 'without validation examples' in err
  code, _, err = run(tmp_path / 'nowhere', x, capsys=capsys)
  assert code == 1 and 'does not exist' in err


def test_lines_of_progress(capsys, monkeypatch):
  monkeypatch.setattr(predict, 'SILENCE', 0.0)
  with predict._display(1000) as update:
    update(250)
  assert '250/1,000 (25 %) rows' in capsys.readouterr().err


def damaged(content: bytes, random, count: int):
  """Yield contents with flipped bits, and cut ones."""
  for number in range(count):
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
      changed[random.integers(min(len(content), 200))] ^= 1 << random.integers(8)
    yield bytes(changed if number % 3 else content[: random.integers(len(content))])


@pytest.mark.parametrize('count', [20, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize('student', ['images', 'table'])
def test_damaged_files_are_rows_with_errors(request, student, count, tmp_path, capsys):
  folder, random = request.getfixturevalue(student), np.random.default_rng(0)
  shape = (2, 8, 8, 1) if student == 'images' else (2, 2)
  np.save(tmp_path / 'x.npy', np.full(shape, 0.5, np.float32))
  np.savez_compressed(tmp_path / 'x.npz', x=np.full(shape, 0.5, np.float32))
  PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / 'x.png')
  (tmp_path / 'x.csv').write_text('a,b\n1,2\n3,4\n')
  inputs = []
  for kind in ('npy', 'npz', 'png', 'csv'):
    content = (tmp_path / f'x.{kind}').read_bytes()
    for number, changed in enumerate(damaged(content, random, count)):
      inputs.append(tmp_path / f'{number}.{kind}')
      inputs[-1].write_bytes(changed)
  code, out, err = run(folder, *inputs, capsys=capsys)
  found = list(csv.DictReader(io.StringIO(out)))
  assert code == 1 and len({row['input'].partition('[')[0] for row in found}) >= 0.8 * len(inputs)
  for row in found:
    value = row.get('confidence') or row.get('mean')
    assert bool(value) != bool(row['error']), row
  assert 'Traceback' not in err
