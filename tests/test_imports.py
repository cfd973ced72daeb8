"""Files and modules that a user names."""

import pytest

from ensdistill import imports


@pytest.mark.parametrize('end', ['part.py', 'part/__init__.py'])
def test_a_module_of_the_working_folder_is_named_by_its_file(end, tmp_path, monkeypatch):
  file = f'own_parts_of_mine/{end}'
  path = tmp_path / file
  path.parent.mkdir(parents=True)
  path.write_text('answer = 42\n')
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=f"No module named 'own_parts.* name its file, {file}"):
    imports.module('own_parts_of_mine.part', '--import')
  assert imports.module(file, '--import').answer == 42


def test_a_module_that_is_nowhere_has_no_hint():
  with pytest.raises(ValueError, match="No module named 'own_parts_of_mine'$"):
    imports.module('own_parts_of_mine.part', '--import')


def test_a_module_that_exits_is_an_error_of_one_line(tmp_path):
  (tmp_path / 'exits.py').write_text('import sys\nsys.exit("no licence")\n')
  with pytest.raises(ValueError, match='--import cannot be imported: SystemExit: no licence'):
    imports.module(str(tmp_path / 'exits.py'), '--import')
