# make demo: set up ./.venv, then one whole run on real data     make toy: the same for regression
# make test: the quick tests     make test-all: all tests     make check: lint, format, types
# make docs: the documentation site, into docs/_build/html, with its notebooks executed
# PYTHON chooses the interpreter, 3.11 to 3.13. By default the first one that runs.
VENV := .venv
RUN := $(VENV)/bin/python
SUPPORTED := import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
ifndef PYTHON
CANDIDATES := python3.12 $(wildcard $(HOME)/.pyenv/versions/3.12*/bin/python) \
  python3.13 $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python) python3.11 python3
PYTHON := $(shell for python in $(CANDIDATES); do \
  $$python -c "$(SUPPORTED)" 2>/dev/null && { echo $$python; break; }; done)
endif

.PHONY: demo toy test test-all check docs clean

demo: $(VENV)/.installed
	$(RUN) -m ensdistill train kd_digits
	@echo "next: . $(VENV)/bin/activate makes \`ensdistill\` a command; docs/tutorial.md goes on"

toy: $(VENV)/.installed
	$(RUN) -m ensdistill train hydra_gaussian_toy1d

test: $(VENV)/.installed-test
	$(RUN) -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(VENV)/.installed-test
	$(RUN) -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(VENV)/.installed-docs
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

# The environment is updated when the requirements have changed.
$(RUN):
	@test -n "$(PYTHON)" && $(PYTHON) -c "$(SUPPORTED)" || \
	  { echo "ensdistill needs Python 3.11 to 3.13: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml setup.py | $(RUN)
	@echo "installing the packages into $(VENV): a few minutes the first time"
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml setup.py | $(RUN)
	@echo "installing the packages into $(VENV): a few minutes the first time"
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml setup.py | $(RUN)
	@echo "installing the packages into $(VENV): a few minutes the first time"
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) docs/_build docs/_generated build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
