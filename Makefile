# make demo   install into .venv and search the embedded zoo
# make test   install with the development tools and run the fast tests
# make check  lint and type-check
# make smoke  one short real search
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: help demo smoke test test-slow check clean
help:
	@grep '^# make' Makefile | sed 's/^# //'

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: .venv/installed
	$(BIN)/automerge search experiment=demo

smoke: .venv/installed
	$(BIN)/automerge search experiment=smoke

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 -m slow

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
