# make book   builds the book into _build/html        make test   runs the tests
# make release   packs the built book as one archive that opens from disk, _build/lrsc-book-*.tar.gz
# Each sets up what it needs in .venv first; needs Python 3.11 or newer (PYTHON=python3.12 picks one).

PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
UV := $(BIN)/uv
INSTALLED := .venv/.installed
PLATFORM := $(shell uname -sm)

.DELETE_ON_ERROR:
.PHONY: setup book release test soak lint gpu-kit bench clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, found " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
ifeq ($(PLATFORM),Linux x86_64)
	$(UV) pip install --python $(BIN)/python --compile-bytecode --require-hashes --requirements requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	$(UV) pip install --python $(BIN)/python --compile-bytecode --editable '.[book,sweep,dev]'
endif
	touch $@

book: setup
	$(BIN)/lrsc book

release: setup
	$(BIN)/lrsc book --archive

# one more than there are cores, since many tests wait for processes they started; at most 4
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(4, 1 + len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4))')

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist=loadfile

# seconds that all faults are injected, and where the counts go (make soak SOAK=600 FAULTS=mine.json)
SOAK := 3600
FAULTS := book/results/faults.json

soak: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/soak.py --seconds $(SOAK) --output $(FAULTS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# what a GPU machine without a network lacks, in gpu/kit; then there: gpu/run.sh MINUTES OUT
gpu-kit: setup
	$(BIN)/python gpu/kit.py

bench: setup
	$(BIN)/lrsc bench

clean:
	rm -rf _build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
