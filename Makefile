# Two commands do everything on a fresh Linux machine with Python 3.11 or newer: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/embedded
MODEL ?= supervised-resnet18w48-synthetic.fpn-synthetic

.PHONY: help install run test test-slow lint typecheck format clean

help:
	@echo "make run        install, then evaluate a bundled model on embedded frames: $(OUT)/report.html, metrics.json"
	@echo "make test       install, then lint, types and tests"
	@echo "make test-slow  the long tests"

install: $(VENV)/.installed

# torch first: its CPU build is what the tested set names, and a range would pull a GPU build of several gigabytes.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	touch $@

run: install
	$(BIN)/zoo evaluate $(MODEL) --data synthetic --out $(OUT)
	@echo "open $(OUT)/report.html"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# From the root `./zoo` would shadow the mapped packages, so types are checked on the built wheel, from outside.
typecheck: install
	rm -rf build/typecheck && mkdir -p build/typecheck
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target build/typecheck .
	cd build/typecheck && MYPYPATH=. $(abspath $(BIN))/python -m mypy --config-file ../../pyproject.toml -p zoo

test: lint typecheck
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

format: install
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean:
	rm -rf build dist runs *.egg-info
