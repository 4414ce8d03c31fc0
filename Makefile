# Every target sets up .venv by itself, with Python 3.11 or newer and the versions that were tested.
#
#   make synth                                  the simulated demonstration set, out/demo
#   make synth CONFIG=configs/build/sirst5k.yaml DATA=NUDT-SIRST NOISE=backgrounds OUT=out/sirst5k
#   make train                                  train on it, then judge on its test split

PYTHON ?= python3
CONFIG ?= configs/build/demo.yaml
DATA ?=
NOISE ?=
OUT ?= out/$(basename $(notdir $(CONFIG)))
TRAIN ?= configs/train/demo.yaml
RUN ?= runs/$(basename $(notdir $(TRAIN)))

BIN := .venv/bin
READY := .venv/.ready
# One run of tests a processor; what one of them has left, another takes over.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: help synth train test test-all coverage results bench lint docs clean
.DEFAULT_GOAL := help

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

synth: $(READY) ## build a data set (CONFIG= DATA= NOISE= OUT=)
	$(BIN)/synth build $(CONFIG) --out $(OUT) \
	  $(if $(DATA),--data $(DATA)) $(foreach source,$(NOISE),--noise $(source))

train: $(READY) ## train a detector on the built set (TRAIN= OUT= RUN=), then test it
	@test -f "$(OUT)/dataset.json" || $(if $(filter command% environment%,$(origin OUT)),\
	  { echo "$(OUT): no data set is there; make synth OUT=$(OUT) builds one" >&2; false; },\
	  $(MAKE) --no-print-directory synth)
	$(BIN)/detect train $(TRAIN) --data $(OUT) --out $(RUN)
	@set -- $(RUN)/best.safetensors; test -f "$$1" || set -- $(RUN)/last.safetensors; \
	  echo $(BIN)/detect test "$$1" $(OUT); $(BIN)/detect test "$$1" $(OUT)

test: $(READY) ## run the tests, but for the slow ones
	$(PYTEST) -m 'not slow'

test-all: $(READY) ## run every test
	$(PYTEST)

coverage: $(READY) ## run every test, and say which lines none of them reaches
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

results: $(READY) ## write the tables and curves of docs/results.md from the files of docs/results
	$(BIN)/python docs/results_page.py docs/results.md

bench: $(READY) ## time builds against the floor, and noise sampling (DATA= NOISE=; else simulated)
	$(BIN)/python tests/benchmarks/bench_build.py compare configs/build/sirst5k.yaml \
	  $(if $(DATA),--data $(DATA)) $(if $(NOISE),--noise $(NOISE))
	$(BIN)/python tests/benchmarks/bench_sampling.py $(if $(NOISE),$(NOISE))

lint: $(READY) ## ruff, mypy, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docs/results_page.py
	$(BIN)/lint-imports --no-logo --no-cache

docs: $(READY) ## the reference of the packages as HTML pages: out/docs/index.html
	$(BIN)/python docs/reference/write.py out/docs

clean: ## remove .venv and caches; data sets and runs stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
