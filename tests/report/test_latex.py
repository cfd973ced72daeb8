"""LaTeX tables fit a page."""

import re

from reports import row, run_of

from ensdistill.report import columns, latex


def test_latex_fits_a_page_however_many_columns_there_are():
  values = {c.key: -0.1234 for c in (*columns.QUALITY, *columns.CALIBRATION)}
  values |= {f'ood/set_{i}/auroc_{kind}': 0.9 for i in range(4) for kind in ('total', 'knowledge')}
  one = row('student', **values, params=1e6) | {'seeds': 3, 'se': dict.fromkeys(values, 0.0123)}
  found = [run_of(f'a_name_of_some_length_{i}_digits', [row('member', acc=0.5), one]) for i in 'ab']
  tex = latex.booktabs(found)
  assert len(tex.split('\\begin{table}')) - 1 == len(set(re.findall(r'\\label{(.*)}', tex))) > 5
  shown = 0
  for body in re.findall(r'\\toprule\n(.*?)\\bottomrule', tex, re.DOTALL):
    lines = [line for line in body.splitlines() if line != r'\midrule']
    assert len(lines) == 4 and all(line.endswith(r' \\') for line in lines)
    (count,) = {line.count(' & ') for line in lines}
    shown += count
    printed = re.sub(r'\\textbf|\\scriptsize|\$|\\pm|[{}\\ ]', '', lines[2])
    assert len(printed) < 100, printed  # of small digits, in part: 400 pt
  assert shown == len(columns.table_columns([one]))
  assert tex.count('{') == tex.count('}') and 'a\\_name\\_of\\_some\\_length\\_a &' in tex
  assert r'-- & ' in tex and r'$-$12.34{\scriptsize$\pm$1.23}' in tex


def test_signs_of_comparison_are_in_mathematics():
  found = row('student', **{'gap_closed/nll': -129.0})
  assert latex._cell(found, columns.GAP, False) == r'$<$ $-$100 \%'


def test_labels_of_a_paper_are_made_from_roles():
  def rows(nll):
    return [row('member', nll=nll), row('ensemble-2', nll=0.2), row('student', nll=0.3)]

  tex = latex.booktabs([run_of('a_digits', rows(0.5)), run_of('b_digits', rows(0.6))])
  labels = [line.split(' & ')[0] for line in tex.splitlines() if ' & ' in line]
  assert labels == ['model', 'one member', 'ensemble of 2', 'one member [b]', 'a', 'b']
