# The two commands are `make lab` and `make test`; `make help` lists the rest.
SHELL := bash
PYTHON ?= python3
PY := .venv/bin/python
export PYTHON
# The environment is .venv, whichever other one is active in the shell.
unexport VIRTUAL_ENV

.PHONY: help setup setup-test lab test bench matrix lint docs hooks constraints clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## make .venv and install the workbench; nothing to do takes no time
	@scripts/setup.sh use

setup-test:
	@scripts/setup.sh test

lab: setup ## start the server and JupyterLab; options: ARGS="--no-browser --port 8899"
	@.venv/bin/workbench lab $(ARGS)

# The whole suite runs in two processes, each file in one of them; a part of it in one.
test: setup-test ## run all tests; a part of them: ARGS="tests/house -x"
	@$(PY) -m pytest $(if $(ARGS),$(ARGS),-n 2 --dist loadfile)

bench: setup-test ## measure against peers and write docs/benchmarks.md
	@$(PY) -m tests.bench $(ARGS)

matrix: setup-test ## slow: the built wheel with the lowest and the newest versions pyproject allows
	@$(PY) -m pytest -m matrix --timeout 1800 $(ARGS)

lint: setup-test ## formatting, lint, types, import contracts
	@$(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m mypy && .venv/bin/lint-imports

docs: setup-test ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

hooks: setup-test ## strip outputs from notebooks at git add
	@git config filter.nbstripout.clean '"$(CURDIR)/$(PY)" -m nbstripout --keep-id'
	@git config filter.nbstripout.smudge cat
	@git config filter.nbstripout.required true
	@git config diff.ipynb.textconv '"$(CURDIR)/$(PY)" -m nbstripout -t'

constraints: ## write constraints.txt anew with the newest versions
	@scripts/constraints.sh

clean: ## remove what the tools made; keeps .venv, work/ and the user's data
	@rm -rf dist build site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find workbench tests scripts -name __pycache__ -prune -exec rm -rf {} +
