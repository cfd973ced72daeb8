"""The command `ensdistill list`."""

import pytest

from ensdistill.commands import listing
from ensdistill.config.recipes import DATA, METHODS, PAPERS, VARIANTS


def test_the_list_describes_everything_in_80_columns(capsys):
  listing.main([])
  lines = capsys.readouterr().out.splitlines()
  assert max(map(len, lines)) <= 80
  shown = {line.split()[0]: line for line in lines if line.startswith('  ')}
  for name, entry in (METHODS | DATA).items():
    assert shown[name].endswith(entry.about)
  assert shown[':small'].endswith(VARIANTS['small'])
  assert 'C R' in shown['kd'] and 'C  ' in shown['end2'] and 'R  ' in shown['nw']


def test_papers_have_their_citations_and_experiments(capsys):
  listing.main(['--papers'])
  out = capsys.readouterr().out
  lines = out.splitlines()
  assert max(map(len, lines)) <= 80
  assert all(name in out for name in PAPERS) and 'arXiv:2110.14149' in out
  for paper in PAPERS.values():
    for name in paper.experiments:
      assert [line.split('ensdistill train ')[1] for line in lines if line.endswith(f' {name}')]
  cell = 'latentbe_tdiv_sdiv  ensdistill train latentbe_tdiv_sdiv_tiny_imagenet:paper'
  above = lines[: lines.index(f'    {cell}')]
  lacks = next(line for line in reversed(above) if 'tiny_imagenet:' in line and 'not known' in line)
  assert lacks.startswith(
    '  tiny_imagenet: validation drawn by seed (theirs: the last); not known, ours:'
  )


def test_abbreviated_and_removed_flags_are_refused(capsys):
  for flag in ('--paper', '--markdown=nosuch'):
    with pytest.raises(SystemExit) as exit:
      listing.main([flag])
    assert exit.value.code == 2 and capsys.readouterr().err.count('\n') == 1
