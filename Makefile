# demo, test and bench do all their own set-up in .venv, with nothing but python3 and make.
#   make demo PIP_ARGS="..."   and   make test PIP_ARGS="..."   pass PIP_ARGS on to pip install.
#   make bench BENCH_ARGS="--loss lncc --peer monai"   passes BENCH_ARGS on to python -m benchmarks.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BENCH_ARGS ?=
BIN := $(VENV)/bin

.PHONY: demo test bench lint conformance clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: $(VENV)/.test lint
	$(BIN)/python -m pytest

bench: $(VENV)/.peers
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

conformance: $(VENV)/.test
	$(BIN)/python -m pytest conformance --report docs/conformance.md

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

# One install a target, done again when what it installs has changed. The extras only ever add to each other.
$(VENV)/.demo $(VENV)/.test $(VENV)/.bench: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[$*]"
	touch $@

# A library that cannot be had is said to be absent by the page, and does not stop the others.
$(VENV)/.peers: benchmarks/peers.txt $(VENV)/.bench
	for peer in $$(grep -v '^#' $<); do $(BIN)/python -m pip install $(PIP_ARGS) --no-deps "$$peer" || true; done
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
