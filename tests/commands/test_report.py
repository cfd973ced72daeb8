"""The command over finished runs writes a page and tables, or one line about a mistake."""

import pytest
from reports import Page, gap_rows, results

from ensdistill.commands import report
from ensdistill.storage import seals


@pytest.fixture
def folders(tmp_path):
  """Two finished runs on the same data, without pictures."""
  found = []
  for name in ('one', 'other'):
    folder = tmp_path / name
    folder.mkdir()
    seals.write_json(folder / 'results.json', results(gap_rows(), name=name))
    config = {
      'data': {'name': 'digits', 'aux': ''},
      'student': {'kind': 'single', 'view': 'members'},
      'perturb': {'name': 'none'},
      'objective': {'name': 'mean'},
      'teacher': {'members': 4},
      'seeds': 3,
      'seed': 0,
    }
    seals.write_json(folder / 'config.json', config)
    found.append(str(folder))
  return found


def test_the_command_compares_runs(folders, tmp_path, capsys):
  out = tmp_path / 'pages' / 'all.html'
  report.main([*folders, f'--out={out}'])
  printed = capsys.readouterr().out
  assert f'page: {out}' in printed and max(map(len, printed.split('page:')[0].splitlines())) <= 80
  assert 'gap closed' in printed and 'other' in printed
  assert r'\toprule' in out.with_suffix('.tex').read_text()
  text = Page(out.read_text()).text
  assert '2 runs compared' in text and 'one closes the gap best: NLL 50 %' in text
  assert 'differ by less than the noise in accuracy' in text


def test_the_page_of_a_single_run_lies_in_its_folder(folders, tmp_path, capsys, monkeypatch):
  report.main(folders[:1])
  assert 'closes 50 % of the gap in NLL' in Page((tmp_path / 'one/report.html').read_text()).text
  monkeypatch.chdir(tmp_path)
  report.main(folders)
  assert (tmp_path / 'comparison.html').exists() and 'comparison.md' in capsys.readouterr().out


def test_all_columns_are_printed_and_the_page_is_opened(folders, tmp_path, capsys, monkeypatch):
  asked = []
  monkeypatch.setattr(report.webbrowser, 'open', lambda url: asked.append(url) or len(asked) == 1)
  report.main([folders[0], '--wide', '--open'])
  printed = capsys.readouterr().out
  assert (tmp_path / 'one' / 'report.md').read_text() in printed and 'no browser' not in printed
  assert asked == [(tmp_path / 'one' / 'report.html').as_uri()]
  report.main([folders[0], '--open'])
  assert f'no browser was found: open {asked[0]}' in capsys.readouterr().out


def test_mistakes_are_one_line_and_exit_code_2(folders, capsys):
  for out in ('x.md', 'x.png', 'x'):
    assert '.html' in refused([folders[0], f'--out={out}'], 2, capsys)
  for arguments in ([], [folders[0], '--oout=x.html']):
    assert '--help' in refused(arguments, 2, capsys)


def test_missing_and_damaged_runs_are_one_line_and_exit_code_1(folders, tmp_path, capsys):
  assert f'{tmp_path} holds no finished run' in refused([str(tmp_path)], 1, capsys)
  assert '/nonexistent does not exist: name' in refused(['/nonexistent'], 1, capsys)
  (tmp_path / 'one' / 'results.json').write_text('{}')
  assert 'one/results.json is damaged' in refused(folders, 1, capsys)
  (tmp_path / 'other' / 'config.json').write_text('{')
  assert 'other/config.json is damaged' in refused(folders[1:], 1, capsys)


def test_a_page_that_cannot_be_written_is_one_line(folders, tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  line = refused([folders[0], f'--out={tmp_path}/file/page.html'], 2, capsys)
  assert line.startswith(f'ensdistill: cannot write into {tmp_path}/file (')


def refused(arguments, code, capsys) -> str:
  """Return the line of an error that ends the command with this exit code."""
  with pytest.raises(SystemExit) as stop:
    report.main(arguments)
  assert stop.value.code == code
  return one_line(capsys)


def one_line(capsys) -> str:
  """Return what was printed to standard error, which must be one line."""
  (line,) = capsys.readouterr().err.splitlines()
  return line
