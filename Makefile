# `make demo` and `make test` do all their own set-up, on any machine with Python 3.11 or newer.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow lint bench notebooks docs clean

setup: .venv/.ready

# uv installs several times faster than pip, and keeps to the lock's builds. Bytecode is compiled here, so that
# the first command is not the slowest.
.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Hilum needs Python 3.11 or newer; %s is %d.%d. Try: make PYTHON=python3.12" % (sys.executable, v[0], v[1]))'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement requirements.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --editable .
	# A test compares the AUC margin loss with LibAUC's, which needs none of LibAUC's dependencies;
	# the test is skipped where LibAUC cannot be installed.
	-$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps libauc==2.0.1
	touch $@

demo: setup
	$(BIN)/hilum demo

# A process per core, each with one thread.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

# Real sweeps, killed processes, several devices, a browser and small versions of the benchmarks.
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Not here: gpu.py (a GPU), loop.py (pytorch-lightning), quality_checks.py (radiographs) and scores.py (a data set).
bench: setup
	for name in comparison hostile kills loading metrics phantom pointing service_load shards uncertainty; do \
		$(BIN)/python benchmarks/$$name.py || exit 1; \
	done

# Each notebook in a Jupyter kernel, at its smallest size; notebooks with outputs are in notebooks-executed/.
notebooks: setup
	$(BIN)/python notebooks/execute.py --small

# Needs no network; a warning is an error. The site is in site/.
docs: setup
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf .venv demo runs site notebooks-executed
