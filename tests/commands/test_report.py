"""The command over finished runs writes a page and tables, or one line about a mistake."""

import json

import pytest
from reports import Page, gap_rows, results

from ensdistill.commands import report


@pytest.fixture
def folders(tmp_path):
  """Two finished runs on the same data, without pictures."""
  found = []
  for name in ('one', 'other'):
    folder = tmp_path / name
    folder.mkdir()
    (folder / 'results.json').write_text(json.dumps(results(gap_rows(), name=name)))
    config = {
      'data': {'name': 'digits', 'aux': ''},
      'student': {'kind': 'single', 'view': 'members'},
      'perturb': {'name': 'none'},
      'objective': {'name': 'mean'},
      'teacher': {'members': 4},
      'seeds': 3,
      'seed': 0,
    }
    (folder / 'config.json').write_text(json.dumps(config))
    found.append(str(folder))
  return found


def test_the_command_compares_runs(folders, tmp_path, capsys):
  out = tmp_path / 'pages' / 'all.html'
  assert report.main([*folders, f'--out={out}']) == 0
  printed = capsys.readouterr().out
  assert out.with_suffix('.md').read_text() in printed and f'page: {out}' in printed
  assert r'\toprule' in out.with_suffix('.tex').read_text()
  text = Page(out.read_text()).text
  assert '2 runs compared' in text and 'one closes the gap best: accuracy 90 ± 12 %' in text


def test_the_page_of_a_single_run_lies_in_its_folder(folders, tmp_path, capsys, monkeypatch):
  assert report.main(folders[:1]) == 0
  assert 'closes 50 % of the gap in NLL' in Page((tmp_path / 'one/report.html').read_text()).text
  monkeypatch.chdir(tmp_path)
  assert report.main(folders) == 0
  assert (tmp_path / 'comparison.html').exists() and 'comparison.md' in capsys.readouterr().out


def test_mistakes_are_one_line_and_exit_code_2(folders, tmp_path, capsys):
  assert report.main([str(tmp_path)]) == 2
  assert 'holds no finished run' in one_line(capsys)
  assert report.main([folders[0], '--out=x.md']) == 2
  assert '.html' in one_line(capsys)
  for arguments in ([], [folders[0], '--oout=x.html']):
    with pytest.raises(SystemExit) as stop:
      report.main(arguments)
    assert stop.value.code == 2 and '--help' in one_line(capsys)


def test_a_page_that_cannot_be_written_is_one_line(folders, tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  assert report.main([folders[0], f'--out={tmp_path}/file/page.html']) == 1
  assert one_line(capsys).startswith('ensdistill: ')


def one_line(capsys) -> str:
  """Return what was printed to standard error, which must be one line."""
  (line,) = capsys.readouterr().err.splitlines()
  return line
