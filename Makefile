# make install   set up .venv (again: nothing to do)
# make train     set up, then train the quickstart
# make test      set up, then lint, type checks, layers, doctests and tests
#
# PYTHON chooses the interpreter that .venv is made with. VENV chooses another environment, which may exist already:
# a Detectron2 that is installed there, such as the official one from source, is kept.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.lightning_seg-installed

.PHONY: install train test lint clean

install: $(STAMP)

train: $(STAMP)
	$(BIN)/python train.py fit --config configs/quickstart.yaml

test: $(STAMP) lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv runs data/quickstart

# Made anew whenever a file that defines it changes; pip then installs only what is missing.
$(STAMP): pyproject.toml requirements-detectron2.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.10 to 3.13 is needed:" \
	    "make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "Could not make $(VENV): install Python's venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("detectron2") is None)' || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
	    --python-version 3.10 --implementation cp --abi none --platform any --require-hashes \
	    --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	    -r requirements-detectron2.txt
	$(BIN)/python -m lightning_seg.installation
	@touch $@
