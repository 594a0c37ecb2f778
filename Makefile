# Every target makes its own virtual environment in .venv on first use; nothing but Python (3.11 or
# newer, with venv) and make is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format bench bench-full results clean

demo: .venv/installed
	$(BIN)/gfn-design demo
	$(BIN)/gfn-design demo molecules

# Two processes of one thread each; a file's tests stay together.
test: .venv/installed-dev check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Speed against other libraries, which get virtual environments of their own in .venv-bench.
bench: .venv/installed
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/cold.py --rounds 1

bench-full: .venv/installed
	$(BIN)/python benchmarks/speed.py --full
	$(BIN)/python benchmarks/cold.py --full
	$(BIN)/python benchmarks/phases.py

# RESULTS.md and its pictures, of runs in runs/results; an hour and a half on two cores.
results: .venv/installed
	$(BIN)/python benchmarks/results.py

format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gfn-design needs Python 3.11 or newer; name one as in: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

.venv/installed: .venv/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@ .venv/installed

clean:
	rm -rf .venv .venv-bench
