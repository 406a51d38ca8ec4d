# `make run` and `make test` work on a fresh Linux machine with Python 3.11 or newer; both install what they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/embedded
MODEL ?= supervised-resnet18w48-synthetic.fpn-synthetic

.PHONY: help install run test test-slow lint typecheck format clean

help:
	@echo "make run        install, then evaluate a bundled model on the embedded frames into $(OUT)"
	@echo "make test       install, then lint, check types and run the tests"
	@echo "make test-slow  run the slow tests"

install: $(VENV)/.installed

# constraints.txt pins the tested versions; pyproject.toml declares wider ranges.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is required')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	touch $@

run: install
	$(BIN)/zoo evaluate $(MODEL) --data synthetic --out $(OUT)
	@echo "Open $(OUT)/report.html"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# In the root folder ./zoo would shadow the installed packages, so types are checked on an installed copy elsewhere.
typecheck: install
	rm -rf build/typecheck && mkdir -p build/typecheck
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target build/typecheck .
	cd build/typecheck && MYPYPATH=. $(abspath $(BIN))/python -m mypy --config-file ../../pyproject.toml -p zoo

# A file's tests run in one process, because they share rendered frames.
test: lint typecheck
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-slow: install
	$(BIN)/python -m pytest -m slow

format: install
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean:
	rm -rf build dist runs *.egg-info
