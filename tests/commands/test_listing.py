"""The command `ensdistill list`."""

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
  assert lacks.startswith('  tiny_imagenet: which 10,000 images validate; not known, ours:')


def test_the_markdown_table_has_a_line_for_each_config_file():
  row = {'measured': 'ACC 98 %', 'published': '', 'hardware': 'two CPU cores', 'time': '45 s'}
  text = listing.markdown({'kd_digits': row, 'be_kd_cifar100': row})
  assert '| `ensdistill train kd_digits` | `:small` | ACC 98 % |  | two CPU cores | 45 s |' in text
  assert '| `ensdistill train be_kd_cifar100` | `:small`, `:paper`, `:common` |' in text
  matrix = next(line for line in text.splitlines() if line.startswith('| `kd` '))
  assert matrix.split(' | ')[1:3] == ['file', 'name']
  assert next(line for line in text.splitlines() if line.startswith('| `nw` ')).startswith(
    '| `nw` |  |  | '
  )
