PYTHON ?= python3
BIN := .venv/bin
ALONE := ranks or slurm

.PHONY: help demo test test-all faults bench lint clean

help: ## list all targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

demo: .venv/core ## train a Glow on Fashion-MNIST with labels for five minutes, test it and draw samples
	$(BIN)/python train.py experiment=fashion_mnist_class_5min run_id=demo resume=auto
	test -e outputs/demo/sampled/grid.png || { rm -rf outputs/demo/sampled && $(BIN)/python sample.py \
		ckpt=outputs/demo/best.safetensors 'temperature=[0.9,1]' 'guidance=[0,1,2]' images=false out=outputs/demo/sampled; }
	@echo
	@echo "outputs/demo/sampled/grid.png: samples, one column per class, one row per temperature and guidance"
	@echo "outputs/demo/real.png: real images to compare with"

test: .venv/test ## run the quick tests on all cores; ARGS="tests/commands/test_sample.py -k seed" runs some of them
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-all: .venv/test ## run all tests, also the slow ones; tests of ranks and SLURM run one after the other
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not ($(ALONE))" $(ARGS)
	$(BIN)/python -m pytest -m "$(ALONE)" $(ARGS)

faults: .venv/test ## kill a run twenty times, break other runs, and check that all end as they should
	KILLS=20 $(BIN)/python -m pytest -m faults tests/faults

bench: .venv/test ## time this project against other libraries, side by side; ARGS="--shapes 1x28x28" times one shape
	$(BIN)/python scripts/bench.py benchmarks $(ARGS)

lint: .venv/test ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment and the caches, but keep data and runs
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/core: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "Python's venv module is missing: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --editable '.[train]'
	@touch $@

.venv/test: .venv/core
	$(BIN)/pip install --editable '.[test]'
	@touch $@
