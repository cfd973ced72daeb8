"""Paths that are refused."""

import os
import pathlib

import pytest

from ensdistill import cli, data, paths


@pytest.mark.parametrize('path', ['gs://bucket/run', 's3://b', 'file:///tmp/x', 'https://x.y/z'])
def test_remote_paths_are_refused_with_the_reason(path):
  with pytest.raises(ValueError, match='--workdir=.*is not a local path: files are read and'):
    paths.check('--workdir', path)
  if path[:2] in ('gs', 's3'):
    with pytest.raises(ValueError, match='--out'):
      paths.check('--out', pathlib.Path(path))


def test_local_paths_pass():
  for path in (None, '', 'runs/a', '/tmp/ü', '~/x', 'a:b', 'C:/x', os.curdir):
    paths.check('--workdir', path)


def test_names_with_line_breaks_are_refused():
  with pytest.raises(ValueError, match=r"--workdir='runs/a\\nb' holds a line break"):
    paths.check('--workdir', 'runs/a\nb')


def test_names_that_are_not_utf_8_are_refused():
  with pytest.raises(ValueError, match=r"'runs/\\udcff' is not valid UTF-8"):
    paths.check('--workdir', os.fsdecode(b'runs/\xff'))


@pytest.mark.parametrize(
  'arguments, name',
  [
    (['train', 'kd_digits', '--workdir=gs://b/run'], '--workdir'),
    (['train', 'kd_digits', '--config.data.dir=s3://b'], 'data.dir'),
    (['train', 'kd_digits', '--config.teacher.dir=s3://b'], 'teacher.dir'),
    (['train', 'gs://b/kd_digits.py'], '--config'),
    (['train', 'kd_digits', '--workdir=' + os.fsdecode(b'\xff')], '--workdir'),
    (['evaluate', '--student=gs://b/student'], '--student'),
    (['report', 'gs://b/run'], 'RUN_DIR'),
    (['data', 'npz:gs://b/set.npz'], 'npz:FILE'),
  ],
)
def test_every_command_refuses_them_in_one_line(arguments, name, capsys):
  with pytest.raises(SystemExit) as exit:
    cli.main(arguments)
  err = capsys.readouterr().err
  assert exit.value.code == 2 and err.count('\n') == 1 and f'ensdistill: {name}=' in err


def test_images_in_files_may_have_any_name(tmp_path):
  from PIL import Image

  for name in ('a', 'b'):
    for i in range(5):
      path = os.fsencode(tmp_path / name / f'{i}') + b'\xff.png'
      (tmp_path / name).mkdir(exist_ok=True)
      with open(path, 'wb') as file:
        Image.new('RGB', (4, 4), (i, 0, 0)).save(file, 'PNG')
  dataset = data.load(f'folder:{tmp_path}', valid=2)
  assert len(dataset.test.x) == 2 and dataset.fingerprint


def test_a_class_of_images_needs_a_name_in_utf_8(tmp_path):
  from PIL import Image

  for name in (b'a', b'\xff'):
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    for i in range(5):
      with open(os.path.join(folder, b'%d.png' % i), 'wb') as file:
        Image.new('RGB', (4, 4)).save(file, 'PNG')
  with pytest.raises(ValueError, match='is not valid UTF-8'):
    data.load(f'folder:{tmp_path}', valid=2)
