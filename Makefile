# `make demo` (set-up, then a whole run on real data), `make toy` (regression) and `make test`.
# PYTHON chooses the interpreter (3.11 to 3.13); everything goes into ./.venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo toy test lint clean

demo: $(VENV)/.installed
	$(RUN) -m ensdistill.main --config=configs/kd_digits.py

toy: $(VENV)/.installed
	$(RUN) -m ensdistill.main --config=configs/hydra_gaussian_toy1d.py

test: $(VENV)/.installed-test
	$(RUN) -m pytest -n 2

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# The environment is made anew when what the package needs has changed.
$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" || \
	  { echo "ensdistill needs Python 3.11 to 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml setup.py | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml setup.py | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info
