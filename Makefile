# Every target sets up .venv itself, from the hash-pinned requirements.lock.
PYTHON ?= python3.11
BIN := .venv/bin
# These take as long as all the others; the faults wait more than they work, beside both.
FAULTS := tests/training/test_faults.py
HALF := $(addprefix tests/,training tune serving export promote backends record calibrate)

.PHONY: demo test test-half test-others test-faults check lock

demo: .venv/ready  ## from nothing to a served decision
	$(BIN)/python -m demo

test: .venv/ready  ## what CI runs, on two cores
	$(MAKE) --jobs=3 test-half test-others test-faults

test-half: .venv/ready
	$(BIN)/python -m pytest $(HALF) --ignore=$(FAULTS)

test-others: .venv/ready
	$(BIN)/python -m pytest $(HALF:%=--ignore=%)

test-faults: .venv/ready
	$(BIN)/python -m pytest $(FAULTS)

check: .venv/ready  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --quiet --editable .
	touch $@

lock: .venv/ready  ## after a change of the dependencies in pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --generate-hashes --no-header -q -o requirements.lock
