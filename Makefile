# demo, test and bench do all their own set-up in .venv, with nothing but python3 and make.
#   make demo PIP_ARGS="..."   and   make test PIP_ARGS="..."   pass PIP_ARGS on to pip install.
#   make array-api-tests ARRAY_API_TESTS=path   runs the checkout of array-api-tests there on TensorFlow's namespace.
#   make test TEST_JOBS=4   runs the tests in so many processes, of some 5 GB each.
#   make conformance   writes docs/conformance.md; CuPy is a stand-in there, by NumPy, unless CUPY_STAND_IN= is empty.
#   make test-fast   runs what is not slow and needs no cluster, on NumPy and on PyTorch alone: for use between two edits.
#   make bench BENCH_ARGS="--loss lncc --peer monai"   passes BENCH_ARGS on to python -m benchmarks.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BENCH_ARGS ?=
TEST_JOBS ?= 2
ARRAY_API_TESTS ?=
ARRAY_API_EXAMPLES ?= 100
CUPY_STAND_IN ?= $(CURDIR)/tests/cupy_stand_in
BIN := $(VENV)/bin

.PHONY: demo test test-fast bench lint docs conformance array-api-tests array-api-suite clean

demo: $(VENV)/.images
	$(BIN)/python examples/demo.py

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup

test-fast: $(VENV)/.test
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup -m "not slow and not cluster" tests conformance --backend numpy --backend torch

bench: $(VENV)/.peers
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Nothing is fetched: formulas are MathML, and fonts and scripts are the theme's own. AGNOREG_GALLERY=0 leaves the examples out.
docs: $(VENV)/.docs
	cd docs && $(abspath $(BIN))/python -m sphinx -W -n --keep-going -b html . _build/html

conformance: $(VENV)/.test
	PYTHONPATH="$(CUPY_STAND_IN)" $(BIN)/python -m pytest conformance --report docs/conformance.md

# An expected failure that passes is one too. See docs/tensorflow-namespace.md.
array-api-tests: array-api-suite $(VENV)/.test
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -r "$(ARRAY_API_TESTS)/requirements.txt"
	cd "$(ARRAY_API_TESTS)" && PYTHONPATH="$(CURDIR)/tests/array_api" ARRAY_API_TESTS_MODULE=agnoreg_tensorflow.namespace \
		ARRAY_API_TESTS_VERSION=2024.12 "$(abspath $(BIN))/python" -m pytest array_api_tests -p tensor_shapes \
		--xfails-file="$(CURDIR)/tests/array_api/xfails.txt" -o xfail_strict=true -p no:cacheprovider \
		--max-examples=$(ARRAY_API_EXAMPLES) --hypothesis-derandomize --disable-deadline

array-api-suite:
	@test -d "$(ARRAY_API_TESTS)/array_api_tests" && test -d "$(ARRAY_API_TESTS)/array-api/spec/2024.12" || { \
		echo "ARRAY_API_TESTS must be the path of a checkout of array-api-tests with its submodule, got '$(ARRAY_API_TESTS)'."; \
		echo "Get one:  git clone --recurse-submodules https://github.com/data-apis/array-api-tests"; \
		echo "then run: make array-api-tests ARRAY_API_TESTS=array-api-tests"; \
		echo "A checkout without the submodule gets it by: git submodule update --init"; \
		exit 1; }

clean:
	rm -rf $(VENV) demo docs/_build docs/generated docs/gallery .pytest_cache .mypy_cache .ruff_cache .hypothesis

# One install a target, done again when what it installs has changed. The extras only ever add to each other.
$(VENV)/.demo $(VENV)/.test $(VENV)/.bench $(VENV)/.docs: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[$*]"
	touch $@

# Of nilearn the demo needs the images in its package, and nothing that it imports.
$(VENV)/.images: $(VENV)/.demo
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt --no-deps nilearn
	touch $@

# A library that cannot be had is said to be absent by the page, and does not stop the others.
$(VENV)/.peers: benchmarks/peers.txt $(VENV)/.bench
	for peer in $$(grep -v '^#' $<); do $(BIN)/python -m pip install $(PIP_ARGS) --no-deps "$$peer" || true; done
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
