# Needs Python 3.11-3.13, git and make. Every target sets itself up: the versions locked in uv.lock
# go into .venv, and go there again only when pyproject.toml or uv.lock changes.

EXTRAS ?= ogbench video tensorboard serve view bridge widowx hdf5
JOBS ?= 2
ARGS ?=

# One uv for everybody, whatever is on PATH: an older one may not read the lock.
UV_VERSION := 0.13.9
UV_STAMP := .tools/uv-$(UV_VERSION)
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT ?= 180
# A company's own certificate authority is in the system's bundle, not in uv's.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= 1
endif
# pyright asks the network for newer versions of itself otherwise.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# Prints the first Python that really runs: a pyenv shim may be on PATH and yet start nothing.
FIND_PYTHON = for candidate in "$(PYTHON)" .venv/bin/python python3 python3.13 python3.12 python3.11; do \
	if "$$candidate" -c '$(SUPPORTED)' >/dev/null 2>&1; then echo "$$candidate"; break; fi; done

empty :=
space := $(empty) $(empty)
SYNCED := .venv/.synced-$(subst $(space),-,$(strip $(EXTRAS)))
DOCS := .venv/.synced-docs

.PHONY: help setup quickstart test test-all bench-smoke gpu-check supply docs lint format clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(SYNCED) ## create .venv with the locked versions (EXTRAS="... cuda" adds to it)

quickstart: $(SYNCED) ## train and evaluate a small agent, with pictures, in minutes
	.venv/bin/farstep quickstart $(ARGS)

test: lint docs ## lint, build the site, then the fast tests
	.venv/bin/pytest -n $(JOBS) $(ARGS)

test-all: lint docs ## the same with every test, slow ones too
	.venv/bin/pytest -n $(JOBS) -m "" $(ARGS)

bench-smoke: $(SYNCED) ## whether the documented speeds still hold, in under two minutes
	.venv/bin/python benchmarks/smoke.py

gpu-check: ## whether an NVIDIA GPU computes right and fast: a table to send (2: there is no GPU)
	@if command -v nvidia-smi >/dev/null; then \
		$(MAKE) --no-print-directory setup EXTRAS="$(EXTRAS) cuda"; \
	else $(MAKE) --no-print-directory setup; fi
	.venv/bin/python benchmarks/gpu_check.py $(ARGS)

supply: $(SYNCED) ## what users get: every Python, lowest versions, wheel, sdist, audit, SBOM
	.venv/bin/python .ci/supply.py $(ARGS)

docs: $(DOCS) ## build the documentation into site/; warnings and broken links are errors
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

lint: $(SYNCED) ## formatting, lint rules, types, and who imports whom
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/lint-imports --no-logo
	.venv/bin/pyright

format: $(SYNCED) ## rewrite the sources as `make lint` wants them
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

clean: ## remove the environment and every cache
	rm -rf .venv .tools site .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV_STAMP):
	@python="$$($(FIND_PYTHON))"; \
	if [ -z "$$python" ]; then \
		echo "farstep needs Python 3.11, 3.12 or 3.13; python3 here is: $$(python3 --version 2>&1 | tail -n 1)"; \
		echo "  Debian, Ubuntu:  apt-get install python3.11 python3.11-venv   (or python3.12, python3.13)"; \
		echo "  Fedora:          dnf install python3.12"; \
		echo "  elsewhere:       make setup PYTHON=/path/to/python3.11"; \
		exit 1; \
	fi; \
	rm -rf .tools; \
	if ! reason="$$("$$python" -m venv .tools 2>&1)"; then \
		rm -rf .tools; \
		echo "$$python cannot create a virtual environment: $$reason"; \
		echo "  Debian, Ubuntu:  apt-get install python3-venv"; \
		exit 1; \
	fi
	.tools/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@touch $@

$(SYNCED): $(UV_STAMP) pyproject.toml uv.lock
	@rm -f .venv/.synced-*
	@echo "uv sync --frozen $(addprefix --extra ,$(EXTRAS))"
	@.tools/bin/uv sync --frozen --python "$$($(FIND_PYTHON))" $(addprefix --extra ,$(EXTRAS))
	@touch $@

# Beside what is there already; the rule above takes it away again together with its stamp.
$(DOCS): $(SYNCED)
	@.tools/bin/uv sync --frozen --inexact --python "$$($(FIND_PYTHON))" $(addprefix --extra ,$(EXTRAS)) --group docs
	@touch $@
