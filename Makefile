# make help lists the targets. Everything runs in .venv, or in the Python of MTKD_PYTHON.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help install test lint format docs constraints audit clean

# Files of a test module stay in one process, which shares their fixtures.
PYTEST_ARGS ?= -n 2 --dist loadfile
RUN := . ./path.sh &&
SCRIPTS = $$(find . -name '.[!.]*' ! -name .ci -prune -o -name '*.sh' -print) .ci/run

help:  ## this text
	@grep -E '^[a-z]+: ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

install:  ## make .venv and install everything; ends at once when that is done
	@tools/install.sh

test: install  ## the tests; PYTEST_ARGS="-x test/data" instead of two processes over all of them
	@$(RUN) HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 python -m pytest -q $(PYTEST_ARGS)

lint: install  ## ruff and shellcheck
	@$(RUN) ruff check . && ruff format --check . && shellcheck -x -P SCRIPTDIR $(SCRIPTS)

format: install  ## let ruff sort the imports and lay out the code
	@$(RUN) ruff check --fix-only --quiet . && ruff format .

docs: install  ## the documentation site: build/site/index.html
	@$(RUN) python -c 'import material, mkdocstrings, latex2mathml' || \
	    { echo "error: make docs needs the extra docs: pip install -e '.[docs]'" >&2; exit 1; }
	@$(RUN) python -m espnet_mtkd.bin.list_options
	@$(RUN) NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict
	@echo "wrote build/site/index.html"

constraints:  ## write the versions that are installed to tools/constraints.txt
	@MTKD_PYTHON= tools/install.sh --extras mini,kaldiio,lora,onnx,demo,docs,test,dev
	@{ grep '^#' tools/constraints.txt; .venv/bin/python -m pip freeze --exclude-editable | \
	    sed -E 's/\+[a-z0-9.]+$$//' | grep == | grep -vE '^(nvidia|cuda|triton)'; \
	} >tools/constraints.new && mv tools/constraints.new tools/constraints.txt

audit: install  ## ask for known vulnerabilities of the pinned versions (pip-audit; needs a network)
	@$(RUN) python -m pip_audit --strict -r tools/constraints.txt --no-deps --disable-pip

clean:  ## remove caches; keeps .venv, dump and exp
	@find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
