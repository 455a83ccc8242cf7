# make train   set up, train OAPPO on the Black and Red maze, and show what it learned
# make check   ruff, mypy and the tests that are not marked slow
# make football  build and install Google Research Football, once a machine
# make docs    build the documentation site in site/ (open site/index.html)
# make test    set up what is missing and run everything, slow tests included
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
CONFIG ?= oappo
ENV_CONFIG ?= maze
SEED ?= 1

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help train check test docs reference football clean
help:
	@sed -n 's/^# make/make/p' Makefile

train: $(VENV)/.core
	$(PY) src/main.py --config=$(CONFIG) --env-config=$(ENV_CONFIG) with seed=$(SEED)
	$(PY) -m oamarl showcase latest

# the tests run in several processes, one thread each; neighbours stay together, for what a file prepares once
check test: export OMP_NUM_THREADS := 1
# hundreds of processes of the tests import the same modules: compiled once, whatever the shell says of it
check test: export PYTHONDONTWRITEBYTECODE :=

check: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -n $(JOBS) --dist worksteal -m "not slow"

test: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -n $(JOBS) --dist worksteal

football: $(VENV)/.core
	$(PY) -m oamarl install football

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/.core
	@$(PY) -c 'import material, mkdocstrings, latex2mathml' 2>/dev/null || $(PY) -m pip install -e '.[docs]'
	$(PY) -m mkdocs build --strict

reference: $(VENV)/.core
	$(PY) -m oamarl.tools.reference

# A stamp is written only after everything before it succeeded, so a set-up that failed is taken up again.
$(VENV)/.core: setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; } \
	  || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(PY) install -q pip; } >/dev/null 2>&1 \
	  || { rm -rf $(VENV); echo "$(PYTHON) cannot create a virtual environment: run 'apt-get install -y python3-venv' as root (on Debian), then make again." >&2; exit 1; }
	@# torch goes first and by this very line, which gets the small build; one that is there is left alone
	@$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install torch==2.13.0
	@$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install --force-reinstall torch==2.13.0
	$(PY) -m pip install -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PY) -m pip install -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
