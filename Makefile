# make quickstart   a venv, synthetic people, a small AAformer trained and tested, pictures
# make check test   what continuous integration runs
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# real data to try things on, for those who have some: tests that need it skip without it
AAFORMER_TEST_DATA ?= $(wildcard ../shared/data)
export AAFORMER_TEST_DATA := $(if $(AAFORMER_TEST_DATA),$(abspath $(AAFORMER_TEST_DATA)))
export NO_ALBUMENTATIONS_UPDATE := 1
export NO_MKDOCS_2_WARNING := 1
# compiled once, not in each of the dozens of processes that the tests start (some containers turn this off)
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install quickstart check reproduce-laptop reproduce-market1501 docs notebooks format test test-slow test-gpu gpu-report soak fuzz coverage mutate audit clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

install: $(BIN)/.installed ## a virtual environment with the pinned versions

$(BIN)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c requirements.lock -e ".[all]"
	touch $@

quickstart: install ## train a small AAformer on synthetic people (minutes on two cores) and look at it
	$(BIN)/python -m aaformer_lit.train experiment=quickstart

check: install ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install ## the test suite
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow and not gpu" $(PARALLEL)

test-slow: install ## the minutes-long tests
	$(BIN)/pytest -m slow

test-gpu: install ## tests that need a CUDA device
	$(BIN)/pytest -m gpu

gpu-report: install ## what holds on this machine's GPU: tests, kernel, speed, memory, training (10 minutes; one page to send us)
	$(BIN)/python -m aaformer_lit.benchmarks.report device=cuda size=full

soak: install ## kill trainings, fill the disk, end ranks, give bad input; prints what survived (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py

reproduce-laptop: install ## train the 21 runs of docs/reproduction.md's laptop table (hours on two cores) and print it
	$(BIN)/python -m aaformer_lit.train -m sweep=laptop
	$(BIN)/python -m aaformer_lit.report table=laptop runs=$(or $(AAFORMER_RUNS),runs)/sweeps/laptop-synthetic

reproduce-market1501: install ## the baseline and Table V's rows on Market-1501 in DATA=DIR, 3 seeds (BACKBONE=vit_small; a GPU, many hours)
	$(BIN)/python -m aaformer_lit.train -m sweep=market1501 data=market1501 $(if $(DATA),paths.data=$(DATA)) model/backbone=$(or $(BACKBONE),vit_small)
	$(BIN)/python -m aaformer_lit.report table=market1501 runs=$(or $(AAFORMER_RUNS),runs)/sweeps/market1501-market1501

docs: install ## the documentation as a site (site/), with the API reference; a broken link or a warning is an error
	$(BIN)/mkdocs build --strict

notebooks: install ## run the notebooks and write their outputs into them
	$(BIN)/python notebooks/execute.py

fuzz: install ## thousands of odd inputs to parsers, tables, lists, files and config (many minutes)
	AAFORMER_FUZZ=2000 $(BIN)/pytest tests/fuzz tests/data/test_parsers.py --timeout 3600

coverage: install ## the test suite with the lines of src it reaches, at least 90 %
	mkdir -p build
	@# TorchDynamo cannot trace what slipcover has changed, and the loop of an exported preprocessing is traced
	OMP_NUM_THREADS=1 $(BIN)/python -m slipcover --source src --omit "*/deploy/preprocess.py" --json --out build/coverage.json \
	  -m pytest -m "not slow and not gpu" $(PARALLEL)
	$(BIN)/python -m slipcover --merge build/coverage.json --out build/coverage.json --skip-covered --fail-under 90

mutate: install ## break assigners, metrics, losses and sampler piece by piece: do the tests notice? (hours; in build/mutate)
	$(BIN)/pip install --quiet --disable-pip-version-check mutmut
	rm -rf build/mutate && mkdir -p build/mutate
	cp -r src tests conf pyproject.toml README.md LICENSE build/mutate
	cat tests/mutmut.toml >> build/mutate/pyproject.toml
	cd build/mutate && OMP_NUM_THREADS=1 $(abspath $(BIN))/mutmut run && $(abspath $(BIN))/mutmut results

audit: install ## known vulnerabilities of the pinned dependencies; fails where no service can be asked
	$(BIN)/python .ci/audit.py

clean: ## remove caches (not the environment, not runs)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
