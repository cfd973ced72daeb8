"""The command python -m ensdistill.data: its text, its picture, its errors."""

import numpy as np
import pictures
import pytest

from ensdistill import data
from ensdistill.commands import data as data_command
from ensdistill.report.figures import style


def test_images_in_a_folder(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pictures.folder(tmp_path / 'set', (30, 10, 10))
  pictures.damage(tmp_path / 'set' / 'class_0' / '000.png')
  data_command.main(['folder:set', '--size=8', '--crop_area=0.5', '--flip', '--unreadable=skip'])
  lines = capsys.readouterr().out.splitlines()
  said = dict((line[:12].strip(), line[12:]) for line in lines)
  assert said['training'] == '36 examples, 6.9 kB' and said['inputs'] == '8 x 8 x 3, uint8'
  assert said['classes'] == '3, 7 to 21 training examples each'
  assert said['labels'].startswith('0 class_0 (21), 1 class_1 (')
  assert said['largest'].startswith('58.3 %')
  assert said['from'] == 'set' and said['stays'] == 'in its files, decoded batch by batch'
  assert said['skipped'].startswith('1 image(s), the first: set/class_0/000.png cannot be read')
  assert said['examples'] == 'folder_set.png'
  sheet = style.pixels((tmp_path / 'folder_set.png').read_bytes()).reshape(-1, 3)
  assert len(sheet) > 10_000
  for label in range(3):  # the sheet shows every class in its own colour
    near = np.abs(sheet[:, :2].astype(int) - pictures.colour(label)[:2]).max(1) < 3
    assert near.sum() > 1000


def test_grey_images_and_tables(tmp_path, capsys):
  for name, shown in (('digits', '8 x 8 x 1, float32'), ('diabetes', '10, float32')):
    out = tmp_path / 'sheets' / f'{name}.png'
    data_command.main([name, f'--out={out}', '--limit=50'])
    said = capsys.readouterr().out
    assert f'inputs      {shown}' in said and 'in memory, as a whole on the device' in said
    assert style.pixels(out.read_bytes()).shape[1] > 300
  assert 'targets     1, mean' in said


def test_sets_without_labels(tmp_path, capsys):
  pictures.folder(tmp_path / 'set', (12,), (10, 8))
  pictures.damage(tmp_path / 'set' / 'class_0' / '001.png')
  folder = f'folder:{tmp_path}/set/class_0'
  for arguments, shown, count in (
    (['photographs'], '64 x 64 x 3, uint8', '1,000'),
    (['digits_inverted'], '8 x 8 x 1, float32', '997'),
    (['spirals_ood'], '2, float32', '1,000'),
    ([folder, '--size=8', '--crop_area=0.5', '--unreadable=skip'], '8 x 8 x 3, uint8', '11'),
  ):
    out = tmp_path / 'sheet.png'
    data_command.main([*arguments, f'--out={out}'])
    said = capsys.readouterr().out
    assert f'inputs      {shown}' in said and f'test        {count} examples, ' in said
    assert 'targets     none: use it as inputs only' in said and 'mean  ' in said
    assert style.pixels(out.read_bytes()).shape[1] > 300
    out.unlink()
  assert 'skipped     1 image(s), the first: ' in said


def test_estimates_from_a_sample_are_marked(tmp_path, capsys, monkeypatch):
  pictures.folder(tmp_path / 'set', (30, 10))
  monkeypatch.chdir(tmp_path)
  for examples, said in ((1000, False), (12, True)):
    monkeypatch.setattr(data.moments, '_SAMPLE', examples)
    data_command.main(['folder:set', '--size=8'])
    assert ('(of 12 examples)' in capsys.readouterr().out) == said


@pytest.mark.parametrize(
  'arguments, code, message',
  [
    (['digts'], 2, "did you mean 'digits'"),
    ([], 2, 'required: NAME'),
    (['digits', '--size=8'], 2, "unknown setting of data set 'digits' 'size'"),
    (['digits', '--crop_area=0.5'], 2, '--crop_area=0.5 needs images in files: leave it out'),
    (['digits', '--crop=-1'], 2, 'augment.crop=-1 must not be negative'),
    (['folder:/nowhere'], 1, 'folder /nowhere does not exist'),
    (['csv:TABLE'], 2, 'set --target to one of its columns: a, b'),
    (['TABLE'], 2, "did you mean 'csv:TABLE'?"),
    (['FOLDER'], 2, "did you mean 'folder:FOLDER'?"),
  ],
)
def test_errors_are_one_line(capsys, tmp_path, arguments, code, message):
  (tmp_path / 'table.csv').write_text('a,b\n1,2\n')
  known = {'TABLE': f'{tmp_path}/table.csv', 'FOLDER': str(tmp_path)}
  for name, path in known.items():
    arguments = [argument.replace(name, path) for argument in arguments]
    message = message.replace(name, path)
  with pytest.raises(SystemExit) as stopped:
    data_command.main(arguments)
  error = capsys.readouterr().err
  assert stopped.value.code == code and message in error and error.count('\n') == 1


def test_settings_in_messages_are_flags_of_the_command():
  text = "set data.stream='on', or set augment.crop_area=0, or set data.size to 8"
  shown = 'set --stream=on, or set --crop_area=0, or set --size to 8'
  assert data_command._with_flags(text) == shown


@pytest.mark.parametrize(
  'counts, name, message',
  [
    ((), 'set', 'set holds no image'),
    ((6, 6), 'set', r'/029.png: the image has 20 x 30 pixels, others have 12 x 12: set --size'),
  ],
)
def test_folders_that_are_not_a_data_set(tmp_path, capsys, counts, name, message):
  root = pictures.folder(tmp_path / 'set', counts)
  root.mkdir(exist_ok=True)
  if len(counts) > 1:
    pictures.write(root / 'class_1' / '029.png', (0, 0, 0), (20, 30))
  with pytest.raises(SystemExit) as stopped:
    data_command.main([f'folder:{tmp_path}/{name}', f'--out={tmp_path}/sheet.png'])
  error = capsys.readouterr().err
  assert stopped.value.code == 1 and message in error and error.count('\n') == 1
  assert not (tmp_path / 'sheet.png').exists()
