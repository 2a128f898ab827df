# The first Python of these that runs and is 3.11 or 3.12; override with `make PYTHON=...`.
PYTHON ?= $(firstword $(foreach python,python3.12 python3.11 python3,$(shell \
	$(python) -c "import sys; 0x30b0000 <= sys.hexversion < 0x30d0000 and print('$(python)')" 2>/dev/null)))
VENV ?= .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/.installed
# Tests in as many processes as there are cores, at most four.
SPREAD := -n auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo sparsity-demo test test-all format lint types docs check bench clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Make the virtual environment and install the package for development

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; name one with make PYTHON=..." >&2; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(STAMP)  ## Train a small in-context classifier and compare it on real tables
	$(RUN) examples.demo

sparsity-demo: $(STAMP)  ## Train with entmax, predict its zeros, and test the network on predicted graphs
	$(RUN) examples.sparsity

test: $(STAMP)  ## Run the fast tests
	$(RUN) pytest $(SPREAD)

test-all: $(STAMP)  ## Run every test that needs no network
	$(RUN) pytest $(SPREAD) -m "not network"

format: $(STAMP)  ## Rewrite the code in the project's format
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

lint: $(STAMP)  ## Check format and style
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(STAMP)  ## Check the types
	$(RUN) mypy

docs: $(STAMP)  ## Write the table of mechanisms, and run what the documentation shows
	$(RUN) tabattn.attention README.md
	$(RUN) pytest tests/test_readme.py

check: lint types test docs  ## Everything a change must pass

bench: $(STAMP)  ## Measure time and memory of every mechanism
	$(RUN) benchmarks.attention

clean:  ## Remove what tools left behind; keep the environment and the runs
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
