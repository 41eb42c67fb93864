# Every target makes or reuses .venv and needs nothing but Python >= 3.11:
#   make test                     or  make test PYTHON=python3.13 PYTEST_ARGS="-k pooling"
PYTHON ?= python3
PYTEST_ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-all lint bench docs clean

help:
	@echo "make demo      train on sample_data/, label a file and draw the plots, into demo/"
	@echo "make test      the tests, without the slow ones (PYTEST_ARGS=... goes to pytest)"
	@echo "make test-all  all tests"
	@echo "make lint      ruff and mypy"
	@echo "make bench     the benchmarks"
	@echo "make docs      the documentation, into docs/_build/"
	@echo "make clean     remove everything that the other targets made"

demo: .venv/.plot
	$(BIN)/tracksets demo -o demo

test: .venv/.test
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: .venv/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: .venv/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/.bench
	$(BIN)/python -m bench

docs: .venv/.docs
	$(BIN)/sphinx-build -W --keep-going docs docs/_build

clean:
	rm -rf .venv build demo dist docs/_build docs/jupyter_execute .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests bench examples docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is older than Python 3.11; say which one to use: make PYTHON=python3.13 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

# One stamp for each extra, named after it.
.venv/.%: pyproject.toml | $(BIN)/python
	@echo "Installing tracksets[$*] into .venv; the first time takes minutes."
	$(PIP) install --quiet --editable ".[$*]"
	@touch $@
