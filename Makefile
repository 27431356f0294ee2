# Every target sets up .venv itself, from the hash-pinned requirements.lock.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-faults test-others check lock

demo: .venv/ready  ## from nothing to a served decision
	$(BIN)/python -m demo

test: .venv/ready  ## what CI runs; the faults, which mostly wait, beside the rest
	$(MAKE) --jobs=2 test-faults test-others

test-faults: .venv/ready
	$(BIN)/python -m pytest --quiet tests/training/test_faults.py

test-others: .venv/ready
	$(BIN)/python -m pytest --ignore=tests/training/test_faults.py

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
