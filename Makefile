# Everything here sets itself up: the first target that is run makes .venv (needs Python >= 3.11 with venv, nothing else).
# Arguments: OUT=folder (demo), N= and SEED= (soak), PYTHON=python3.12 (which interpreter .venv is made from).

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
READY := .venv/.ready
BIN := .venv/bin
OUT ?= demo
N ?= 50
SEED ?= 0

.PHONY: setup demo test lint bench soak clean

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

# two processes with a thread each: the tests are many and small
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not soak" -n 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

soak: $(READY)
	N=$(N) SEED=$(SEED) $(BIN)/python -m pytest -m soak -rA

clean:
	rm -rf .venv build dist *.egg-info
