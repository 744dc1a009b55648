# One command for each thing; continuous integration runs the same. `make` alone lists them.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

python := .venv/bin/python
uv := scripts/uv
# Compiled at once: a service that may not write into its own code would compile all of it at every start.
pip := $(uv) pip install --quiet --compile-bytecode --python $(python)
compile := $(uv) pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

# Stamps say what is installed, so that a second `make test` starts at once.
made := .venv/.made
serving := .venv/.serving
developing := .venv/.developing
benchmarking := .venv/.benchmarking

.PHONY: help
help: ## List these commands
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(developing) ## Make .venv with everything to run, test and change mainstem

.PHONY: install
install: $(serving) ## Make .venv with only what serving needs

.PHONY: run
run: $(serving) ## Run the server on http://127.0.0.1:8082, data in ./mainstem-data
	.venv/bin/mainstem serve

.PHONY: demo
demo: $(serving) ## Load 336,776 real flights into a server of its own and ask five questions of them
	.venv/bin/mainstem demo

.PHONY: test
test: $(developing) ## Run all tests, on up to four cores
	.venv/bin/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: check
check: $(benchmarking) ## Check format, lint, types, import rules, and that documents and code agree
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest -q tests/test_repository.py

.PHONY: format
format: $(developing) ## Format the code, and mend what the linter can mend
	.venv/bin/ruff check --fix-only --quiet
	.venv/bin/ruff format

.PHONY: reference
reference: $(developing) ## Write the generated parts of docs/reference anew
	$(python) tests/reference.py

.PHONY: crash
crash: $(developing) ## Kill it 1,000 times under load, and 100 times while it transcodes
	$(python) -m tests.crash --kills 1000
	$(python) -m tests.crash --transcodes 100

.PHONY: soak
soak: $(developing) ## Load all doors at once for ten minutes and look that nothing leaks or is lost
	$(python) -m tests.soak --minutes 10

.PHONY: nightly
nightly: soak crash ## What takes too long for every commit: the soak and the thousand kills

.PHONY: bench
bench: $(benchmarking) ## Measure beside Redis, NATS, PostgreSQL, ffmpeg, nginx and FastAPI; writes benchmarks/RESULTS*.md (25 minutes)
	$(python) -m benchmarks

.PHONY: bench-quick
bench-quick: $(benchmarking) ## The main ratios in under two minutes
	$(python) -m benchmarks --quick

.PHONY: bench-curves
bench-curves: $(benchmarking) ## How costs grow with events stored, streams and connections
	$(python) -m benchmarks --curves

.PHONY: lock
lock: ## Pin the newest dependencies that pyproject.toml allows, with hashes
	$(uv) pip compile --quiet --universal --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --upgrade requirements/bootstrap.in -o requirements/bootstrap.lock
	$(compile) --upgrade pyproject.toml --group build -o requirements/run.lock
	$(compile) --upgrade pyproject.toml --all-extras --group build --group dev -c requirements/run.lock \
		-o requirements/dev.lock
	$(compile) --upgrade pyproject.toml --all-extras --group build --group dev --group bench \
		-c requirements/dev.lock -o requirements/bench.lock

.PHONY: clean
clean: ## Remove what these commands made, but no data
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .schemathesis dist build
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(made): .python-version scripts/make-venv
	scripts/make-venv
	@touch $@

# The project itself is installed editable: a change in src/ takes effect at the next start.
define install_lock
	$(pip) --require-hashes --requirements $<
	$(pip) --no-deps --no-build-isolation --editable .
	$(python) -m compileall -q src/mainstem
	@touch $@
endef

$(serving): requirements/run.lock pyproject.toml $(made)
	$(install_lock)

$(developing): requirements/dev.lock pyproject.toml $(made)
	$(install_lock)
	@touch $(serving)

$(benchmarking): requirements/bench.lock pyproject.toml $(made)
	$(install_lock)
	@touch $(serving) $(developing)
