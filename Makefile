# Every target works on a fresh clone: the first one sets up .venv, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

# What comes after `python -m benchmarks.`, in this order.
BENCHMARKS := network inference deformable_attention fusion memory training loader \
	scoring 'scoring --memory' scoring_video_panoptic scoring_maps video plots

# Idle OpenMP threads spin unless told to sleep, which on shared cores makes everything several times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## segment the bundled photo and clip into demo_output/index.html
	$(BIN)/entitytransfer demo

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(READY)  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(READY)  ## measure (about an hour on 2 cores) and rewrite the tables of BENCHMARKS.md
	$(BIN)/python -m pip install --quiet --editable '.[benchmarks]'
	set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name; done

$(READY): setup.cfg pyproject.toml
	@echo 'Setting up .venv; this happens once and takes a few minutes.'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $@
