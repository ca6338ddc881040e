# `make demo` and `make test` need Python 3.11 or newer and a package index; they set up everything else.

VENV := .venv
PY := $(VENV)/bin/python
SWARM := $(VENV)/bin/swarm
STAMP := $(VENV)/.complete

# The first of these that is new enough; `make PYTHON=/path/to/python ...` chooses another.
PYTHON = $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
NEED_PYTHON = test -n '$(PYTHON)' || { echo 'error: Python 3.11 or newer is needed: install it, or name it: make PYTHON=/path/to/python' >&2; exit 1; }

# Importing litellm without byte-code takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test nightly lint types imports fmt bench lock build clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Make .venv: the locked packages, and swarm itself, editable

# No stamp: nobody knows how far the last set-up came, so it starts from an empty folder.
$(STAMP): requirements.lock pyproject.toml
	@$(NEED_PYTHON)
	@echo 'Setting up $(VENV) (about a minute, only when the lock or pyproject.toml changed)' >&2
	@test -e $@ && rm $@ || $(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --compile --require-hashes --only-binary :all: -r requirements.lock
	@$(PY) -m pip install --quiet --compile --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## Run a first swarm on a small model on this machine: no key, no account
	@$(SWARM) models pull smollm2
	$(SWARM) run quickstart -m embedded/smollm2

test: lint types imports ## Run every check that CI runs
	$(PY) -m pytest -n 2

nightly: $(STAMP) ## Kill runs 500 times and look for lost work, then fuzz new ground (ten minutes)
	SWARM_KILLS=500 $(PY) -m pytest -n 2 -rP tests/e2e/test_crashes.py -k random_kills
	SWARM_SEED=$$(date +%s) $(PY) -m pytest -n 2 tests/fuzz

lint: $(STAMP) ## Check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(STAMP) ## Check types
	$(PY) -m basedpyright

imports: $(STAMP) ## Check that imports keep to the architecture
	$(VENV)/bin/lint-imports --no-logo

fmt: $(STAMP) ## Format, and fix what can be fixed
	$(PY) -m ruff check --fix --exit-zero --quiet .
	$(PY) -m ruff format .

bench: $(STAMP) ## Measure start-up, overhead and throughput
	$(PY) tests/bench/bench.py
	$(PY) -m tests.bench.traffic

lock: ## Rebuild requirements.lock, for every platform
	@$(NEED_PYTHON)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && "$$tmp/bin/pip" install --quiet uv && \
	"$$tmp/bin/uv" pip compile pyproject.toml --system-certs --extra embedded --extra dev \
		--universal --python-version 3.11 --generate-hashes --only-binary :all: --no-emit-index-url --upgrade --quiet \
		--custom-compile-command 'make lock' --output-file requirements.lock

build: $(STAMP) ## Build the wheel and the source archive into dist/
	$(PY) -m hatchling build

clean: ## Remove what was built, .venv included
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
