# The first target that is run makes .venv; that needs Python >= 3.11 with venv, and nothing else.
# Arguments: OUT=folder (demo), N= and SEED= (soak), PYTHON=python3.12 (the interpreter for .venv).

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# for `make test-newest`; where this finds none, uv fetches one
PYTHON_NEWEST ?= $(shell for p in python3.13 $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.13*/bin/python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && echo $$p && break; done)
READY := .venv/.ready
BIN := .venv/bin
OUT ?= demo
N ?= 50
SEED ?= 0

.PHONY: setup demo test test-newest lint bench soak clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt Makefile
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 found; install one, or name it: make PYTHON=/path/to/python3 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' \
		|| $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/star demo --out $(OUT)

# two processes with one thread each, since the tests are many and small
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not soak" -n 2

# Python 3.13 with the newest versions of everything; what starts processes is tested by `make test` alone
test-newest: .venv-3.13/.ready
	OMP_NUM_THREADS=1 .venv-3.13/bin/python -m pytest -m "not soak and not processes" -n 2

.venv-3.13/.ready: pyproject.toml constraints-3.13.txt .venv-3.13/bin/python
	$(BIN)/uv pip install --quiet --python .venv-3.13/bin/python -c constraints-3.13.txt -e '.[dev]'
	@touch $@

.venv-3.13/bin/python: | $(READY)
	$(BIN)/uv venv --quiet --clear --python $(or $(PYTHON_NEWEST),3.13) .venv-3.13

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

soak: $(READY)
	N=$(N) SEED=$(SEED) $(BIN)/python -m pytest -m soak -rA

clean:
	rm -rf .venv .venv-3.13 build dist *.egg-info
