"""The table of recipes as Markdown."""

import json

import pytest

from ensdistill.commands import readme


def test_the_markdown_table_has_a_line_for_each_config_file():
  row = {'measured': 'ACC 98 %', 'published': '', 'hardware': 'two CPU cores', 'time': '45 s'}
  text = readme.markdown({'kd_digits': row, 'be_kd_cifar100': row})
  assert '| `ensdistill train kd_digits` | `:small` | ACC 98 % |  | two CPU cores | 45 s |' in text
  assert '| `ensdistill train be_kd_cifar100` | `:small`, `:paper`, `:common` |' in text
  matrix = next(line for line in text.splitlines() if line.startswith('| `kd` '))
  assert matrix.split(' | ')[1:3] == ['file', 'name']
  assert next(line for line in text.splitlines() if line.startswith('| `nw` ')).startswith(
    '| `nw` |  |  | '
  )


def test_the_command_writes_the_table_beside_its_numbers(tmp_path, capsys):
  row = {'measured': 'ACC 98 %', 'published': '', 'hardware': 'two CPU cores', 'time': '45 s'}
  (tmp_path / 'measured.json').write_text(json.dumps({'kd_digits': row}))
  readme.main([str(tmp_path)])
  assert (tmp_path / 'README.md').read_text() == readme.markdown({'kd_digits': row})
  with pytest.raises(SystemExit) as exit:
    readme.main([str(tmp_path / 'nosuch')])
  err = capsys.readouterr().err
  assert exit.value.code == 1 and err.count('\n') == 1 and 'nosuch/measured.json' in err
