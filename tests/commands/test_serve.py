"""`ensdistill serve`: wrong usage, and the start and the end of its process."""

import dataclasses
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny

from ensdistill import cli, export
from ensdistill.serving import app, limits, server

ZEROS = json.dumps({'instances': np.zeros((1, 8, 8, 1)).tolist()})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  plan = tiny.plan(tiny.config(), tiny.dataset(), tmp_path_factory.mktemp('run'))
  export.save_all(plan, tiny.untrained(plan)[1])
  return plan.folder


def run(*arguments, capsys):
  """Return (exit code, errors) of the command."""
  with pytest.raises(SystemExit) as error:
    cli.main(['serve', *map(str, arguments)])
  return error.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
  ('arguments', 'why'),
  [
    ([], 'STUDENT'),
    (['x', '--port=99999'], "--port: '99999' must be a whole number from 0 to 65,535"),
    (['x', '--max_batch=0'], "--max_batch: '0' must be a whole number from 1 to 1,048,576"),
    (['x', '--timeout_s=nan'], "--timeout_s: 'nan' must be a number from 0.01 to 10,000"),
    (['x', '--max_wait=1'], "did you mean '--max_wait_ms'"),
    (['x', '--host=no.such.host.invalid', '--port=0'], 'cannot listen there'),
    (['x', '--host=192.0.2.1', '--port=0'], 'cannot listen there'),
    (['x', '--host=' + 'a' * 300, '--port=0'], '--host'),
  ],
)
def test_wrong_usage(arguments, why, capsys):
  code, err = run(*arguments, capsys=capsys)
  assert code == 2 and why in err and err.count('\n') == 1


def test_a_wrong_limit_on_pixels_ends_the_server_not_its_requests(folder, capsys, monkeypatch):
  monkeypatch.setenv('ENSDISTILL_MAX_PIXELS', '2e8')
  code, err = run(folder, '--port=0', capsys=capsys)
  assert code == 2 and "ENSDISTILL_MAX_PIXELS='2e8' must be a whole number from 1: set it" in err


def test_the_documentation_states_the_defaults():
  text = (pathlib.Path(__file__).parents[2] / 'docs/serving.md').read_text()
  for one in dataclasses.fields(limits.Limits):
    assert re.search(rf'\| `--{one.name}=[A-Z]+` \| {one.default:g} \|', text), one.name


def test_a_signal_before_the_start(folder, monkeypatch, capsys):
  before = app.App.starlette

  def asked(self):
    os.kill(os.getpid(), signal.SIGTERM)
    return before(self)

  monkeypatch.setattr(app.App, 'starlette', asked)
  code, err = run(folder, '--port=0', capsys=capsys)
  assert code == 143 and 'stopped by SIGTERM: it had not started' in err


def test_a_port_in_use(folder, capsys):
  with server.listening('127.0.0.1', 0) as own:
    code, err = run(folder, f'--port={own.getsockname()[1]}', capsys=capsys)
  assert code == 2 and 'the port is in use' in err and err.count('\n') == 1


def test_students_that_cannot_be_served(folder, tmp_path, capsys):
  code, err = run(tmp_path, '--port=0', capsys=capsys)
  assert code == 1 and 'holds no student' in err
  code, err = run(folder, folder, '--port=0', capsys=capsys)
  assert code == 2 and "two students are named 'tiny'" in err
  code, err = run(f'a/b={folder}', '--port=0', capsys=capsys)
  assert code == 2 and 'must be letters' in err


def test_without_the_extra(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'uvicorn', None)
  code, err = run('x', capsys=capsys)
  assert code == 2 and 'pip install "ensdistill[serve]"' in err


def started(*arguments):
  """Start the command; return its process and port."""
  command = [sys.executable, '-m', 'ensdistill', 'serve', *map(str, arguments), '--port=0']
  process = subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
  )
  lines = []
  for line in process.stdout:
    lines.append(line)
    if found := re.match(r'ready after .*: http://127.0.0.1:(\d+) ', line):
      return process, int(found[1])
  raise AssertionError((lines, process.stderr.read()))


@pytest.mark.parametrize(
  'number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_answers_what_was_accepted(folder, number):
  if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
    pytest.skip('SIGINT is ignored here')
  process, port = started(f'first={folder}', f'second={folder}', '--max_wait_ms=2000')
  found = {}

  def ask(name):
    own = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    own.request('POST', f'/v1/models/{name}:predict', ZEROS, {'content-type': 'application/json'})
    answer = own.getresponse()
    found[name] = answer.status, json.loads(answer.read())
    own.close()

  threads = [threading.Thread(target=ask, args=(name,)) for name in ('first', 'second')]
  [thread.start() for thread in threads]
  time.sleep(0.7)
  assert not found
  process.send_signal(number)
  [thread.join() for thread in threads]
  out, err = process.communicate(timeout=60)
  assert process.returncode == 0 and 'all accepted requests were answered' in out
  assert {status for status, _ in found.values()} == {200} and not err
  with pytest.raises(ConnectionRefusedError):
    socket.create_connection(('127.0.0.1', port), 5)
