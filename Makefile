# One virtual environment in the checkout, made by whichever target needs it first.
# PYTHON=… chooses the interpreter it is made of, 3.11 or newer.

BIN := .venv/bin
# Named after what it was installed from, and made last: an interrupted setup leaves none, and starts anew.
INSTALLED := .venv/installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)

.DEFAULT_GOAL := help
.PHONY: help setup test lint demo

help:
	@echo 'make demo    analyse a sample video on this machine, from an empty checkout to the result'
	@echo 'make test    run the tests'
	@echo 'make lint    check style, format and types'
	@echo 'make setup   only make .venv; $(BIN)/videoanalysis is then the command line'

setup: $(INSTALLED)

$(INSTALLED):
	@set -e; \
	if ls .venv/installed-* >/dev/null 2>&1; then \
	    rm .venv/installed-*; \
	else \
	    for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	        $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
	    done; \
	    test -n "$${found:-}" || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python' >&2; exit 1; }; \
	    $$found -m venv --clear .venv; \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

demo: setup
	@mkdir -p build
	$(BIN)/videoanalysis analyze services/ingress/sample_clip.mp4 --report build/report.html
