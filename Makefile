# `make help` lists what there is. Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
RUN_TESTS := $(BIN)/python -m pytest

# Tests that train nothing: the inner loop.
FAST := $(wildcard tests/test_*.py) $(addprefix tests/,house safety numerics data heads contracts evaluation selection runs cli)
# Half of the time of all tests; the other half is all else, and both run side by side.
WHOLE := tests/training tests/stories tests/trust
SIDE_BY_SIDE := $(MAKE) --no-print-directory --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: help demo check test test-tensorflow lint fast stages whole clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*  ## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r target text; do \
		printf '  make %-15s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.installed  ## install, then learn handwritten digits; needs no network once installed
	$(BIN)/headstart demo

check: $(VENV)/.installed-test  ## the inner loop, within a minute: lint and types beside the tests that train nothing
	@$(SIDE_BY_SIDE) lint fast

test: $(VENV)/.installed-test lint  ## all extras that the tests need, then every test, on two cores
	@echo "the tests run in two halves, and each is shown when it is done"
	@$(SIDE_BY_SIDE) stages whole

test-tensorflow: $(VENV)-tensorflow/.installed  ## what needs TensorFlow, in an environment of its own
	$(VENV)-tensorflow/bin/python -m pytest tests/compat tests/backbones/test_tensorflow_files.py tests/contracts

lint: $(VENV)/.installed-test  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(VENV)/.installed-test
	$(RUN_TESTS) $(FAST)

stages: $(VENV)/.installed-test
	$(RUN_TESTS) tests $(addprefix --ignore=,$(WHOLE))

whole: $(VENV)/.installed-test
	$(RUN_TESTS) $(WHOLE)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)-tensorflow/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-tensorflow
	$(VENV)-tensorflow/bin/python -m pip --quiet --disable-pip-version-check install --editable '.[tensorflow,tensorboard]' \
		pytest hypothesis scikit-image onnxruntime
	touch $@

clean:  ## forget what was installed and built
	rm -rf $(VENV) $(VENV)-tensorflow build dist
