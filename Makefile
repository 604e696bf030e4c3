# Two commands: `make demo` sets everything up and does the main job on made-up data; `make test` sets up and
# runs lint, types and tests. Needs Python 3.11 or 3.12, Java 17 or 21 and make; writes nothing outside the
# checkout but the packaging tools' caches and ~/.cache/ebi-spark (EBI_SPARK_JARS moves the latter).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-spark40 platforms urls coverage soak nightly lint docs picture contract bench lock clean

BIN := .venv/bin
READY := .venv/.ready
SPARK40 := .venv-spark40
S3_SERVER := .venv-s3
# The first Python that will do: $(PYTHON) if it is given, otherwise in the order after `call`.
find_python = python=""; for candidate in $(PYTHON) $(1) python3; do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' >/dev/null 2>&1; then \
	    python="$$candidate"; break; fi; done; \
	if [ -z "$$python" ]; then echo "ebi-spark needs Python 3.11 or 3.12: install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; fi
# Test processes, each with its own Spark session. Each one more needs 3 GB of memory and two cores.
WORKERS ?= 2

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(READY) ## virtual environment, locked packages, Delta's jars, a check of Java
	@$(BIN)/python -m jobs.setup

$(READY): requirements.lock requirements-build.lock pyproject.toml
	@$(call find_python,python3.12 python3.11); \
	if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "$$python cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; fi; \
	"$$python" -m venv --clear .venv
	@echo "installing the locked packages into .venv (a few minutes the first time)" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-build.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-build-isolation --compile-bytecode --require-hashes -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-build-isolation --no-deps -e .
	@$(BIN)/python -m jobs.setup
	@touch $(READY)

demo: $(READY) ## the main job on made-up data, from nothing to published tables and a report, in ./demo
	@$(BIN)/python -m jobs.demo

test: $(READY) ## lint, types and tests
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-spark40: $(SPARK40)/.ready ## the tests under Spark 4.0 (and Python 3.12 where there is one), in .venv-spark40; TESTS=… for some
	@$(SPARK40)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

# As `setup`, but for pyspark.
$(SPARK40)/.ready: $(READY) requirements-spark40.lock
	@$(call find_python,python3.12 python3.11); $(BIN)/uv venv -q --clear --python "$$python" $(SPARK40)
	@awk '/^[a-z]/ {keep = !/^pyspark==/} keep' requirements.lock > $(SPARK40)/requirements.txt
	@$(BIN)/uv pip install -q --python $(SPARK40) --no-deps --require-hashes -r requirements-build.lock
	@$(BIN)/uv pip install -q --python $(SPARK40) --no-deps --no-build-isolation --compile-bytecode --require-hashes \
	  -r $(SPARK40)/requirements.txt -r requirements-spark40.lock
	@$(BIN)/uv pip install -q --python $(SPARK40) --no-deps --no-build-isolation -e .
	@$(SPARK40)/bin/python -m jobs.setup
	@touch $@

platforms: $(READY) ## the whole job on a Spark Connect server and on a standalone cluster of two workers; some minutes
	@$(BIN)/python -m pytest -m 'soak or not soak' -s tests/test_platforms.py

urls: $(S3_SERVER)/bin/moto_server ## the jars for lakes and sources at s3a:// (600 MB), and the whole job on an S3 server on this machine
	@$(BIN)/python -m jobs.setup --urls
	@$(BIN)/python -m pytest -m 'soak or not soak' -s tests/test_urls.py

# A server of the S3 protocol, apart from the product's packages: it needs an older dateutil.
$(S3_SERVER)/bin/moto_server: $(READY)
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(S3_SERVER)
	@$(BIN)/uv pip install -q --python $(S3_SERVER) 'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5

coverage: $(READY) ## the tests, and which lines of the package they run
	@COVERAGE_CORE=sysmon $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "$(or $(COVERED),not soak)" --cov=ebi_spark --cov=jobs --cov-report=term:skip-covered

soak: $(READY) ## long tests: runs stopped, killed at random moments, failing at every commit, a full disk; over half an hour
	@$(BIN)/python -m pytest -m soak -s tests

nightly: $(READY) $(S3_SERVER)/bin/moto_server ## for a schedule: `soak`, `platforms`, `urls` and `test-spark40`; hours
	@$(BIN)/python -m jobs.setup --urls
	@$(MAKE) --no-print-directory --keep-going soak test-spark40

lint: $(READY) ## lint and types alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(READY) ## the generated pages: docs/tables.md, docs/python-api.md, and tables on other pages
	@$(BIN)/python docs/generate.py

picture: $(READY) ## docs/report.png: the first screen of the demo's report (needs Chromium)
	@$(BIN)/python docs/picture.py demo/lake/report.html

contract: $(READY) ## the data contract of the demo's release, checked by datacontract-cli (needs the network)
	@$(BIN)/ebi-spark export --lake demo/lake --out demo/files --format odcs
	@$(BIN)/uv tool run --from datacontract-cli datacontract lint demo/files/datacontract.yaml

bench: $(READY) ## benchmarks against DuckDB, at a size that takes a few minutes
	@$(BIN)/python -m benchmarks.run

lock: $(READY) ## resolve the dependencies again (needs the network)
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group build -o requirements-build.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  pyproject.toml --extra local --extra exports --extra urls --group test -o requirements.lock
	@echo 'pyspark~=4.0.0' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --no-deps --generate-hashes --no-header \
	  --no-annotate - -o requirements-spark40.lock

clean: ## remove the environment and the demo
	rm -rf .venv $(SPARK40) $(S3_SERVER) demo .pytest_cache .mypy_cache .ruff_cache
