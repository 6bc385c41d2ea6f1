# Everything runs in .venv inside the checkout; `make demo` and `make test` need nothing but Python 3.11+ and this file.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1

.PHONY: install demo test test-slow check bench fuzz soak reproduce reproduce-quick clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ml,dev]'
	touch $(STAMP)

demo: install
	$(BIN)/python bench/demo.py

# A file's tests stay together: they share fixtures. Each process has a PostgreSQL server of its own.
TEST_PROCESSES ?= 2
test: install
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not slow"

# The rest of the suite: emulated processors, whole trainings, every method on benchmark files. CI runs both.
test-slow: install
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m slow

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python bench/governance.py
	$(BIN)/python bench/replay.py
	$(BIN)/python bench/meta_gradient.py --quick
	$(BIN)/python bench/ledger.py --quick

# 500 inputs for every operation of the API, such that fit its description and such that do not.
fuzz: install
	FUZZ_EXAMPLES=500 $(BIN)/python -m pytest -n 0 --timeout 3600 tests/e2e/test_api_fuzz.py

# 8 processes append for a minute, half of them are killed at random; on both engines.
soak: install
	$(BIN)/python bench/soak.py

# Pretraining, meta-training of three seeds and the core rows from nothing; it goes on where it stopped.
reproduce: install
	$(BIN)/python bench/reproduce.py

reproduce-quick: install
	$(BIN)/python bench/reproduce.py --quick

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
