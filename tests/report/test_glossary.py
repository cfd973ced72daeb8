"""Every column of a table has its entry."""

from ensdistill.report import columns, glossary


def test_every_column_is_explained():
  every = [*columns.QUALITY, *columns.CALIBRATION, *columns.UNCERTAINTY, *columns.COST]
  rows = [{'metrics': {f'ood/far/auroc_{kind}': 1.0 for kind in columns.OOD}}]
  every += [*columns.TRAINING, columns.GAP, *columns.ood_columns(rows)]
  missing = [column.key for column in every if glossary.anchor(column.key) is None]
  assert not missing


def test_the_guide_has_all_entries_once():
  text = glossary.markdown()
  assert all(text.count(f'(metric-{name})=') == 1 for name in glossary.ENTRIES)
  assert all(entry.latex for entry in glossary.ENTRIES.values() if entry.plain)
