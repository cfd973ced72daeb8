"""The end of a run: strict results.json, pictures and TensorBoard."""

import io
import json
import sys
import xml.etree.ElementTree as ET

import pytest
import tiny
from PIL import Image
from reports import seen_by

from ensdistill import names, report
from ensdistill.config import folder as claims
from ensdistill.config import identity
from ensdistill.logs import writers
from ensdistill.report import figures, results
from ensdistill.report.figures import quality, style


def test_results_are_strict_json(finished):
  folder, written = finished

  def refuse(constant):
    raise AssertionError(constant)

  read = json.loads((folder / 'results.json').read_text(), parse_constant=refuse)
  assert read == written == claims.results(folder)
  assert read['rows'][0]['metrics']['prr_epkl'] is None
  assert {'name', 'rows', 'not_run', 'timings', 'config_fingerprint', 'versions'} <= set(read)
  assert read['family'] == 'categorical'
  assert [(row['role'], row['size']) for row in read['rows']] == [
    ('member', 1), ('ensemble', 2), ('ensemble', 3), ('student', 1)
  ]  # fmt: skip
  assert list(read['timings']) == ['teacher', 'student', 'report']
  assert 'x ' in read['versions']['processor'] and read['versions']['devices']
  assert 'NLL' in report.table(read) and 'ensemble-3' in report.table(read)


def test_pictures_leave_out_averages_that_no_run_is_about(dataset, compared):
  averaged = 'student-averaged'
  rows = [*compared.rows, compared.rows[-1] | {'name': averaged, 'role': 'averaged'}]
  models = [*compared.models, compared.models[-1]._replace(name=averaged, role='averaged')]
  both, seen = compared._replace(rows=rows, models=models), seen_by(dataset)
  seen = seen._replace(plane=seen.plane._replace(predictives={'student': 1, averaged: 2}))
  found, looked = results.shown(tiny.config(), both, seen)
  assert found == compared and looked.plane.predictives == {'student': 1}
  config = tiny.config(student__kind='batch_ensemble', student__view='averaged')
  assert results.shown(config, both, seen) == (both, seen)


def test_pictures_and_numbers_are_in_tensorboard(finished):
  from tensorboard.backend.event_processing import event_accumulator

  folder, written = finished
  events = event_accumulator.EventAccumulator(str(folder / 'tb'))
  events.Reload()
  assert set(events.Tags()['images']) == {f'test/report/{name}' for name in written['pictures']}
  for tag in events.Tags()['images']:
    (image,) = events.Images(tag)
    content = image.encoded_image_string
    assert len(content) <= 160_000 and Image.open(io.BytesIO(content)).width == image.width > 100
  nll = written['rows'][-1]['metrics']['nll']
  assert events.Scalars('test/nll')[0].value == pytest.approx(nll)
  assert not [path for path in (folder / 'tb').iterdir() if path.is_dir()]  # one run
  table = events.Tensors('test/report/table')[0].tensor_proto.string_val[0].decode()
  assert table.startswith('| model |')


def test_settings_that_differ_come_first():
  config = identity.to_json(tiny.config(seed=3))
  found = results.changed(config)
  assert 'seed' in found and 'augment.flip' not in found
  assert len(found) < len(names.flatten(config)) / 2


def test_pictures_lie_beside_the_page(finished):
  folder, written = finished
  for name in written['pictures']:
    assert ET.parse(folder / 'figures' / f'{name}.svg').getroot().tag.endswith('svg')
    content = (folder / 'figures' / f'{name}.png').read_bytes()
    pixels = style.pixels(content)
    assert len(content) <= 150_000 and pixels.shape[1] > 300 and pixels.std() > 10, name


def test_a_picture_that_fails_costs_nothing_else(dataset, compared, tmp_path, monkeypatch, capsys):
  def broken(context):
    raise RuntimeError('no ink')

  monkeypatch.setattr(figures, 'FIGURES', {'broken': broken, 'cost': quality.cost})
  with writers.Writer(tmp_path, stream=sys.stdout) as writer:
    drawn = results.draw(tmp_path, dataset, compared, None, writer)
  assert list(drawn) == ['cost'] and 'no ink' in capsys.readouterr().out


def test_a_picture_that_fails_on_a_phone_alone_is_left_out(
  dataset, compared, tmp_path, monkeypatch, capsys
):
  def broken(context):
    if style.is_narrow():
      raise RuntimeError('no room')
    return quality.cost(context)

  monkeypatch.setattr(figures, 'FIGURES', {'broken': broken, 'cost': quality.cost})
  with writers.Writer(tmp_path, stream=sys.stdout) as writer:
    drawn = results.draw(tmp_path, dataset, compared, None, writer)
  said = capsys.readouterr().out
  assert "the picture 'broken' could not be drawn" in said and 'no room' in said
  assert list(drawn) == ['cost'] and not list((tmp_path / 'figures').glob('broken*'))


def test_the_command_line_is_repeated(monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['/x/ensdistill/main.py', '--config=a b.py'])
  assert results.command() == "python -m ensdistill.main '--config=a b.py'"
  monkeypatch.setattr(sys, 'argv', ['/x/pytest'])
  assert results.command() is None
