# Two commands do everything: `make demo` and `make test`. Both build .venv first.
PYTHON ?= python3
# Where it is set, every process would compile every package anew.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin

.PHONY: demo test lint env lock benchmarks chaos cluster clean

demo: env
	$(BIN)/sweep launch alpha_study --storage runs/demo-$$(date +%Y%m%d-%H%M%S)

test: env
	$(BIN)/python -m pytest

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmarks: env
	$(BIN)/python -m tests.benchmarks

# A sweep that is killed at random moments, beside one that is not: about ten minutes.
chaos: env
	$(BIN)/python -m tests.chaos

# What a pool of machines costs and survives, on machines that are pretended here: about fifteen minutes.
cluster: env
	$(BIN)/python -m tests.cluster

env: .venv/built

# Rebuilt when the lock or the package's own metadata change; the sources are linked, not copied.
.venv/built: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# After a change of the dependencies in pyproject.toml.
lock: env
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command "make lock" --output-file requirements.lock
	cp requirements.lock cluster/requirements.lock # what both have is the same version, where that is possible
	$(BIN)/uv pip compile pyproject.toml --extra cluster --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command "make lock" --output-file cluster/requirements.lock

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
