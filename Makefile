# One door to the project. Works with GNU Make 3.81 and bash 3.2; needs Python >= 3.11, git, make.
#
#   make up      install and start a whole network (ARGS="--s3-port 9100" passes options)
#   make test    install with the test extras and run the tests, two files at a time
#                (ARGS="tests/unit -k seal", JOBS=8)
#   make check   lint, format, types, layers
#   make bench   measure the data plane
#   make sim     whole networks in a deterministic simulation (SEED=7: one, in detail)
#   make lock    choose versions anew and write the lock files

SHELL := /bin/bash
VENV := .venv
ARGS ?=
SEED ?=
JOBS ?= 2

# The newest Python that really runs: a pyenv shim may exist and refuse.
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
  "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1 \
  && { echo "$$p"; break; }; done)

.PHONY: up test test-clients check bench sim lock python which-python clean
.DEFAULT_GOAL := up

up: $(VENV)/.run
	@exec $(VENV)/bin/cumulus up $(ARGS)

# The tests start some hundreds of Pythons: what one compiles the next ones shall find.
test: $(VENV)/.test
	env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-clients: $(VENV)/.test
	$(VENV)/bin/python scripts/test_clients.py $(ARGS)

check: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy tests benchmarks
	$(VENV)/bin/lint-imports

bench: $(VENV)/.test
	$(VENV)/bin/python benchmarks/run.py $(ARGS)

sim: $(VENV)/.test
	$(VENV)/bin/python -m tests.simulation.whole.run $(if $(SEED),--seed $(SEED)) $(ARGS)

lock: $(VENV)/.test
	$(VENV)/bin/python -m pip install -q uv
	echo 'setuptools>=77' | $(UV) - -o requirements-build.lock
	$(UV) --extra test pyproject.toml -o requirements-test.lock
	$(UV) -c requirements-test.lock pyproject.toml -o requirements.lock

UV = $(VENV)/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header

python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "Python 3.11 to 3.14 is needed: 'apt install python3.11', 'brew install python@3.13', or python.org" >&2; \
	  exit 2; fi

which-python: python
	@echo "$(PYTHON)"

$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml scripts/make_venv.py
	@$(MAKE) -s python
	@echo "installing into $(VENV) (once; about a minute)"
	@$(PYTHON) scripts/make_venv.py requirements.lock
	@touch $@

$(VENV)/.test: requirements-test.lock requirements-build.lock pyproject.toml scripts/make_venv.py
	@$(MAKE) -s python
	@echo "installing into $(VENV) with the test extras (once; about two minutes)"
	@$(PYTHON) scripts/make_venv.py requirements-test.lock
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
