# Everything that a developer types. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.setup
UV := $(shell command -v uv 2>/dev/null)
COMPILE = $(VENV)/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --no-header \
	--no-emit-index-url --no-emit-find-links --quiet $(ARGS)

.PHONY: help setup demo dev test bench bench-full test-deep check format requirements docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "ARGS=... is passed on to what a target runs: make test ARGS='-k eager -x'"

setup: $(STAMP) ## Make .venv with everything, or bring it up to date

# uv makes the same environment as pip, sooner; either is enough. Where uv is, it also brings a Python that fits.
$(STAMP): requirements-dev.txt pyproject.toml
ifdef UV
	@test -x $(VENV)/bin/python || $(UV) venv --quiet --seed --python '>=3.11' $(VENV)
	@echo "setup: installing into $(VENV) with uv"
	@$(UV) pip install --quiet --python $(VENV)/bin/python -r requirements-dev.txt
	@$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps -e .
else
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "setup: Python 3.11 or newer is needed; name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing into $(VENV) with pip"
	@$(VENV)/bin/python -m pip install --quiet -r requirements-dev.txt
	@$(VENV)/bin/python -m pip install --quiet --no-deps -e .
endif
	@touch $@

demo: setup ## Judge one batch of 24 essays on a stack of its own, live, and print the ranking
	@$(VENV)/bin/cjtasks demo $(ARGS) \
		|| { echo "make demo: it failed; what each process said is in .cjtasks/demo" >&2; exit 1; }

dev: setup ## Run the stack, the fakes and every process until Ctrl-C
	@$(VENV)/bin/cjtasks dev $(ARGS)

test: setup ## Run every test; those that need a Kafka broker are skipped aloud where none can run
	@$(VENV)/bin/pytest $(ARGS)

# One run of each, within 20 minutes; each prints its tables and keeps its numbers in bench/runs.
bench: $(VENV)/.bench ## Measure answers, sending, many batches, growth and the statistics (15 minutes; Linux)
	@for part in callbacks submissions journey growth scoring scoring_speed pairing_speed; do \
		$(VENV)/bin/python -m bench.$$part; done

bench-full: $(VENV)/.bench ## The same at full size, answers five times (hours)
	@$(VENV)/bin/python -m bench.callbacks --rounds 5
	@$(VENV)/bin/python -m bench.submissions --rounds 5
	@$(VENV)/bin/python -m bench.journey --full --scorers 2
	@$(VENV)/bin/python -m bench.journey --small --scorers 2 --patience 7200
	@$(VENV)/bin/python -m bench.growth --full
	@$(VENV)/bin/python -m bench.scoring
	@$(VENV)/bin/python -m bench.quality

# What the scores are measured beside; nothing else needs it.
$(VENV)/.bench: $(STAMP)
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --group bench
	@touch $@

test-deep: setup ## Tell 5,000 longer stories of batches (half an hour; CJ_TEST_STORIES=... for another number)
	@CJ_TEST_STORIES=$${CJ_TEST_STORIES:-5000} $(VENV)/bin/pytest --timeout=0 tests/integration/test_state_machine.py $(ARGS)

check: setup ## Check format, lint, types and the direction of imports
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: setup ## Format the code and mend what can be mended by rule
	@$(VENV)/bin/ruff check --fix --exit-zero .
	@$(VENV)/bin/ruff format .

requirements: setup ## Compile the pins again from pyproject.toml (ARGS=--upgrade: to the newest)
	@$(COMPILE) --output-file requirements.txt
	@$(COMPILE) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

docs: setup ## Write docs/settings.md again from the settings
	@$(VENV)/bin/python docs/generate_settings.py

clean: ## Remove the environment, all data of dev and demo, and what the tools left
	@rm -rf $(VENV) .cjtasks .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -prune -exec rm -rf {} +
