# Every target installs what it needs: into .venv here, and servers into a cache folder per user.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# a path instead of a finder: half of the start of each Python process
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--config-settings editable_mode=compat --editable
DURATION ?= 900
SEED ?= 7
# schemathesis thinks for seconds; all of its tests need servers
WITHOUT_SCHEMATHESIS := -p no:schemathesis --ignore tests/security/test_openapi.py

.DEFAULT_GOAL := help
.PHONY: help install dev run demo quick test test-long torture
.PHONY: check style types imports template pages docs lambda-zip dist vulnerabilities clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.runtime ## what `make run` and `make demo` need

dev: $(VENV)/.dev ## what `make check` and `make test` need too

run: install ## the whole system in the foreground; Ctrl-C stops it
	@$(BIN)/python -m ops.run

demo: install ## a scripted round trip on real servers; exit status 0 if all of it held
	@$(BIN)/python -m ops.demo

run demo quick test test-long: export PYTHONDONTWRITEBYTECODE = # compiled once, not in each process

quick: dev ## the tests that need no server, in about a minute
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not server and not long" $(WITHOUT_SCHEMATHESIS)

test: dev ## all tests, on real servers
	@# three processes on two cores: for a quarter of the time, a test waits for something
	@$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

test-long: dev ## what takes longer: twenty crashes at each point, more schedules
	@$(BIN)/python -m pytest -m long

torture: dev ## random work and faults for DURATION seconds (900), reproducible by SEED (7); one JSON line
	@# CLUSTER=3 [ENGINE=valkey]: on a cluster of so many primaries; else, from 1,800 s on, one Redis and a
	@# cluster side by side. The plot shows memory and open files.
	@$(BIN)/python -m tests.verification.torture --duration $(DURATION) --seed $(SEED) \
		--engine $(or $(ENGINE),redis) $(if $(CLUSTER),--cluster $(CLUSTER)) --plot build/torture.svg

check: style types imports template pages ## style, types, who imports whom, pages

style: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: dev
	@$(BIN)/mypy

imports: dev
	@$(BIN)/lint-imports

template: dev
	@$(BIN)/cfn-lint authorizer_lambda/template.yaml

pages: dev
	@$(BIN)/zensical build --strict

docs: dev ## the pages as a site, in build/site
	@$(BIN)/zensical build --strict --clean

lambda-zip: install ## the authorizer's deployment packages for AWS Lambda, in build/
	@$(BIN)/python -m ops.aws_lambda zip

dist: $(VENV)/.release ## wheel, sdist, licences and SBOM in build/dist, tried in a bare virtual environment
	@$(BIN)/python -m ops.release

vulnerabilities: $(VENV)/.release ## known ones of all that runs; asks the package index's database
	@$(BIN)/python -m ops.release vulnerabilities

clean: ## remove the virtual environment and local data (not the cache of downloaded servers)
	rm -rf $(VENV) .tidemark build *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) ops/stack/fetch/prerequisites.py venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(INSTALL) .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(INSTALL) '.[dev]'
	@touch $@

$(VENV)/.release: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,release]'
	@touch $@
