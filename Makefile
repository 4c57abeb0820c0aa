# Each target does all its own set-up, on a fresh Debian or Ubuntu too; a second call is instant.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench bench-quick dist lock clean

# Some images switch it off, and then every start of the program compiles a thousand files.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
SERVERS := $(VENV)/.servers
# One more than there are cores: many tests wait for servers.
WORKERS := $(shell expr $$(nproc) + 1)
CODE := backupd sources targets tests benchmarks

# Every package is pinned with its hash; nothing is compiled that is never imported.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-compile --no-deps
SELF := $(PIP) --no-build-isolation --editable .

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(DEV) ## an environment to develop in (.venv)

demo: $(RUNTIME) ## the whole story in a minute: a simulated tenant, a cut-off, a restore
	@$(BIN)/backupd demo

test: $(DEV) ## every test
	@$(BIN)/python -m pytest -m "not slow" --numprocesses $(WORKERS) --dist loadfile

lint: $(DEV) ## style, types and the direction of imports
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(DEV) ## put the code in shape
	@$(BIN)/ruff check --fix --quiet $(CODE) || true
	@$(BIN)/ruff format $(CODE)

bench: $(DEV) ## every benchmark, at full size
	@$(BIN)/python benchmarks/run.py

bench-quick: $(DEV) ## every benchmark, small: does it still run
	@$(BIN)/python benchmarks/run.py --quick

dist: $(DEV) ## wheel and source archive in dist/
	@rm -rf dist
	@$(BIN)/python -m hatchling build

lock: $(BASE) ## pin the newest versions that pyproject.toml allows
	@sh .ci/lock $(BIN)/python

clean: ## remove what the other targets made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BASE): .ci/bootstrap .ci/apt
	@sh .ci/bootstrap $(VENV)
	@touch $@

$(RUNTIME): requirements.lock pyproject.toml | $(BASE)
	@echo "Installing the pinned packages (a minute or two)"
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(SELF)
	@touch $@

$(SERVERS): .ci/servers .ci/apt | $(BASE)
	@sh .ci/servers
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml | $(BASE) $(SERVERS)
	@echo "Installing the pinned packages and the tools for development (a minute or two)"
	@$(PIP) --require-hashes --requirement requirements-dev.lock
	@$(SELF)
	@touch $@ $(RUNTIME)
