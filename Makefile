# `make demo` trains on digits, `make test` runs the tests; both make their own environment first.

PYTHON ?= python3
BIN = .venv/bin
# Tests of one file stay together, as they share what they train; a worker that is ready takes of the others'. Three keep
# two cores busy while one of them waits for a program or the disk.
PYTEST = $(BIN)/python -m pytest -n 3 --dist worksteal
# Compiled programs are kept, so that the second run of anything starts at once.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

.PHONY: demo test test-fast test-docs test-slow lint format docs notebooks torch compilers clean

demo: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2
demo: .venv/installed
	$(BIN)/python main.py --config=configs/digits.py --workdir=runs/digits

test: .venv/installed-dev
	$(PYTEST) -m "not slow and not gpu"

# While working: what neither trains, nor compiles much, nor starts programs.
test-fast: .venv/installed-dev
	$(PYTEST) -m "not slow and not gpu and not heavy"

# What the documentation says: the commands of its pages, and the notebooks.
test-docs: .venv/installed-dev
	$(PYTEST) tests/test_docs.py tests/test_colabs.py

test-slow: .venv/installed-dev
	$(PYTEST) -m "not gpu"

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation site, docs/_build/html/index.html. A link that leads nowhere is an error, as all warnings are.
docs: .venv/installed-docs
	rm -rf docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html

# Runs those of colabs/ and writes them back with their outputs: all, or `make notebooks NAMES="quickstart video"`.
notebooks: .venv/installed-dev
	$(BIN)/python -m colabs.run $(NAMES)

# What `posmlp_jax.convert` needs for .pth files, and tests to compare with; those that need it say so where it is missing.
torch: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-torch.txt

# What `python -m benchmarks.compiled` needs to compile for TPUs and GPUs, none of which has to be there.
compilers: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target=.compilers -r requirements-compilers.txt

clean:
	rm -rf .venv .cache .compilers docs/_build runs

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv/installed-docs: .venv/installed requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@
