# Two commands: `make demo` walks the whole graph, `make test` proves it. Both set everything up first.

VENV ?= .venv
BIN := $(VENV)/bin
MARK := $(VENV)/.vjepa2
# A machine with an NVIDIA driver gets the GPU builds; faiss-cpu and faiss-gpu exclude each other.
EXTRA ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
PYTHON ?= python3
UV := env UV_FIND_LINKS="$$($(BIN)/pip config get global.find-links 2>/dev/null || true)" $(BIN)/uv pip
# Every version is pinned, those that our dependencies bring and those that build us, too.
PINS := .constraints.txt
INSTALL := $(UV) install --quiet --compile-bytecode --python $(BIN)/python -c $(PINS) -b $(PINS)
INSTALLER := uv==0.13.8
# The peer of the parity tests asks for torchvision, which brings another torch: without its dependencies.
PEER := cc-vjepa2==0.0.3
# Bytecode is worth seconds in every process that starts.
unexport PYTHONDONTWRITEBYTECODE
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help demo test test-heavy setup setup-test lint ui bench constraints chromium clean-demo

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: setup ## Set up, materialize the graph (all but its studies) with the DEMO profile, print a summary
	@$(BIN)/vjepa2 run --profile demo

test: setup-test chromium ## Set up, then run every test that CI runs
	@echo "== test: running the suite (at most 15 minutes on 2 cores)"
	@$(BIN)/python -m pytest

test-heavy: setup-test ## Run the long proofs, of which `make test` runs a small version each (five minutes)
	@$(BIN)/python -m pytest -m heavy

lint: setup-test ## Style, types and import direction
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

ui: setup ## Serve the Dagster UI on loopback
	@$(BIN)/vjepa2 ui

bench: setup-test ## Measure against the named peers (minutes; not a test)
	@for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench; done

setup: $(MARK)-run ## Create the environment and install what running needs

setup-test: $(MARK)-test ## … and what tests need

$(MARK)-made:
	@if [ -e $(VENV) ]; then \
	  echo "$(VENV) is an environment that you brought: it is left alone. Give another with VENV=path,"; \
	  echo "or install into it yourself: pip install -c $(PINS) -e '.[$(EXTRA),test]', then run vjepa2 and pytest."; \
	  exit 2; fi
	@echo "== setup: creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet $(INSTALLER)
	@touch $@

$(MARK)-run: $(MARK)-made pyproject.toml $(PINS)
	@echo "== setup: installing ($(EXTRA) builds; about a minute on a good line)"
	@$(INSTALL) -e '.[$(EXTRA)]'
	@touch $@

$(MARK)-test: $(MARK)-run
	@echo "== setup: installing what tests need"
	@$(INSTALL) -e '.[$(EXTRA),test]'
	@$(INSTALL) --no-deps $(PEER)
	@touch $@

constraints: $(MARK)-made ## Pin again what pyproject.toml brings in; a pin moves only if it must, or with UPGRADE=--upgrade
	@$(UV) compile --quiet --no-header --no-annotate $(UPGRADE) --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --extra cpu --extra hf --extra test pyproject.toml -o $(PINS)
	@{ printf '%s\n' '# Versions of all that an installation for CPUs brings in, for `pip install -c $(PINS)`.' \
	  '# `make constraints` writes it. What CUDA builds alone bring is left to the exact pins of their own.'; \
	  { printf '%s\n' $(INSTALLER) $(PEER); grep -vE '^(nvidia|cuda|triton)' $(PINS); } \
	  | sed 's/+cpu$$//' | LC_ALL=C sort -f; } >$(PINS).new
	@mv $(PINS).new $(PINS)

chromium:
	@if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== setup: installing Chromium for the test of the UI"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium >/dev/null; \
	  else echo "== no chromium on the PATH: the test of the UI will be skipped"; fi; fi

clean-demo: ## Remove what runs wrote (dagster_home), keep the environment
	@find dagster_home -mindepth 1 -maxdepth 1 ! -name dagster.yaml -exec rm -rf {} +
