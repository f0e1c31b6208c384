# The two commands a newcomer needs are `make demo` and `make test`; both create .venv on first use.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu lint format dashboard ray lock clean

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
WORKSPACE ?= workspace
ARGS ?=
# Threads that wait for each other sleep; spinning makes a busy machine up to twenty times slower.
export OMP_WAIT_POLICY ?= PASSIVE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# uv lives inside .venv, so that the machine needs only Python and git. The lock is hashed: what is
# installed is what was tested, on CPU and CUDA machines alike.
$(READY): requirements.lock pyproject.toml
	@base=; for p in python3 python3.13 python3.12 python3.11; do \
	  if $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then base=$$p; break; fi; \
	done; \
	if [ -z "$$base" ]; then echo "error: Python 3.11 or newer (with venv) was not found. Install it, then rerun this command." >&2; exit 2; fi; \
	$(PYTHON) -m pip --version >/dev/null 2>&1 || $$base -m venv --clear $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.uv.lock
	$(VENV)/bin/uv --system-certs pip install --python $(PYTHON) --require-hashes -r requirements.lock
	$(VENV)/bin/uv --system-certs pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## train and test the 2012 winner on the embedded images (about 3 minutes on 2 cores)
	$(PYTHON) -m pipeline.run --year 2012 --workspace $(WORKSPACE) $(ARGS)

test: $(READY) ## the test suite (under 10 minutes on 2 cores)
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(READY) ## the long tests
	$(PYTHON) -m pytest -m slow $(ARGS)

test-gpu: $(READY) ## the tests that need a CUDA device
	$(PYTHON) -m pytest -m gpu $(ARGS)

lint: $(READY) ## ruff (lint, format) and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: $(READY) ## apply ruff's fixes and format
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

dashboard: $(READY) ## MLflow's UI on loopback with the runs in it
	$(PYTHON) -m pipeline.dashboard --workspace $(WORKSPACE) $(ARGS)

ray: $(READY) ## a local Ray head on loopback, for `ray job submit`
	$(PYTHON) -m cluster.head --workspace $(WORKSPACE) $(ARGS)

lock: $(READY) ## resolve the dependencies again into requirements.lock
	$(VENV)/bin/uv --system-certs pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --extra dev pyproject.toml --output-file requirements.lock

clean: ## remove the environment (the workspace stays)
	rm -rf $(VENV)
