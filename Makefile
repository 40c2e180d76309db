# driftline: every task of the project. `make` alone lists them.
SHELL := bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Three keep two cores busy: one of them waits, for a page, a broker or a deadline. Each has servers of its own.
WORKERS ?= 3
# Tests that have targets of their own.
LONG := faults or thorough or conformance

.PHONY: help install demo up test test-thorough test-faults conformance soak lint format test-fast schemas kafka-jars bench-ingest bench-logger bench-metrics calibrate lock clean

help: ## List the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED) ## Create the virtual environment and install everything, at the locked versions

$(INSTALLED): constraints.txt pyproject.toml dbt_project/adapter/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("driftline needs Python 3.11 or newer: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		--editable ./dbt_project/adapter --editable '.[sandbox]' --group dev --group demo
	touch $(INSTALLED)

demo: $(INSTALLED) ## Run the flights demo: sandbox, training, replay, dbt, report
	$(BIN)/driftline demo flights

up: $(INSTALLED) ## Serve sandbox, loader, Dagster's UI and dashboard until Ctrl-C
	$(BIN)/driftline up

test: lint ## Lint, then run every test, WORKERS at a time
	$(BIN)/pytest -m 'not ($(LONG))' -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --durations 15

test-fast: $(INSTALLED) ## Run the tests that need seconds only
	$(BIN)/pytest -m 'not (slow or $(LONG))' -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

test-thorough: $(INSTALLED) ## Many more orders of arrival and cuts into runs
	$(BIN)/pytest -m thorough -n $(WORKERS) --dist loadgroup --durations 15

test-faults: $(INSTALLED) ## Kill, suspend and starve the loader, Apache Kafka and ClickHouse: the whole failure matrix
	$(BIN)/pytest -m faults --durations 15

conformance: $(INSTALLED) ## Both adapters: clients, dbt's suites, hostile requests, load, kills; Python models, cluster
	$(BIN)/pytest tests/sandbox/test_clickhouse_*.py tests/dbt_project/adapter tests/dbt_project/test_cluster_target.py \
		tests/ingest/test_cluster_tables.py --hypothesis-profile conformance --durations 15

SOAK_MINUTES ?= 10
SOAK_SEED ?=

soak: $(INSTALLED) ## Kill loader, broker and ClickHouse at random for SOAK_MINUTES, then compare exact sets
	$(BIN)/python -m tests.faults.soak --minutes $(SOAK_MINUTES) $(if $(SOAK_SEED),--seed $(SOAK_SEED))

lint: $(INSTALLED) ## ruff, mypy --strict, sqlfluff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar --processes 0 dbt_project/models dbt_project/tests

format: $(INSTALLED) ## Reformat the Python and SQL sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(INSTALLED) ## Generate docs/events/*.schema.json from the event types
	$(BIN)/python -m ingest.event_schemas docs/events

kafka-jars: $(INSTALLED) ## Fetch Apache Kafka's jars, which tests run (they fetch them too)
	$(BIN)/python -m tests.kafka.jars

bench-ingest: $(INSTALLED) ## Measure how fast messages land: Apache Kafka, loader, a plain consumer
	$(BIN)/python -m bench.ingest $(BENCH)

bench-logger: $(INSTALLED) ## Measure what logging adds to a prediction, beside what else one would take
	$(BIN)/python -m bench.logger_latency $(BENCH)

bench-metrics: $(INSTALLED) ## Measure how fast metrics are computed, by stage, beside what else one would take
	$(BIN)/python -m bench.metrics $(BENCH)

calibrate: $(INSTALLED) ## Show that the statistics hold what they claim; write docs/calibration.md
	$(BIN)/python -m bench.calibration $(BENCH)

lock: ## Compile constraints.txt anew from the declared dependencies
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-emit-index-url --no-header --no-annotate --python-version 3.11 \
		--all-extras --group dev --group demo pyproject.toml dbt_project/adapter/pyproject.toml <(echo uv) \
		--no-emit-package driftline --no-emit-package dbt-clickhousepy \
		--output-file constraints.txt

clean: ## Remove what the project generated (the virtual environment stays)
	-$(BIN)/driftline sandbox down
	rm -rf .driftline dbt_project/target dbt_project/logs .mypy_cache .ruff_cache .pytest_cache .hypothesis
