"""The guide to the library: its examples are short, and they run from top to bottom."""

import pathlib
import re
import warnings

import jax
import pytest

PAGE = pathlib.Path(__file__).parent.parent / 'docs' / 'library.md'
BLOCKS = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize('block', BLOCKS)
def test_examples_are_short_and_parse(block):
  compile(block, str(PAGE), 'exec')
  assert len(block.strip().splitlines()) < 15


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names: dict = {}
  with warnings.catch_warnings(), jax.numpy_rank_promotion('allow'):
    for block in BLOCKS:
      exec(compile(block, str(PAGE), 'exec'), names)
  assert [row['name'] for row in names['results']['rows']][-2:] == ['ensemble-4', 'student']
  assert (names['p'].probs.argmax(1) >= 0).all()
  assert names['of_forest'].score(names['x_wine'], names['y_wine']) > 0.9
  for file in ('my_student/weights.safetensors', 'report/report.html'):
    assert (tmp_path / file).exists()
