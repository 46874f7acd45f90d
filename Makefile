# Two commands matter: `make demo` (the main job on a bare CPU) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= demo-out
BENCH ?= build/figures
DATA ?=
export OMP_NUM_THREADS ?= 2

.PHONY: demo test equality bindings node check bench recipes decision nano chaos soak-camera clean

$(BIN)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -e '.[export,adapt,dev]'
	touch $@

demo: $(BIN)/.ready  ## export JUDO-nano to INT8, enrol references, inspect real photos, write the report
	$(BIN)/pip install --quiet elpv-dataset==1.0.0.post1
	$(BIN)/python -m judo_edge.demo --force --out $(RUN)

WORKERS ?= 2
test: $(BIN)/.ready bindings node  ## all tests; WORKERS=0 runs them in one process
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

equality: $(BIN)/.ready  ## replies with drafts against plain greedy on 200 pairs, every source and malicious ones
	DRAFT_PAIRS=200 $(BIN)/python -m pytest tests/flow/test_drafts.py

bindings: $(BIN)/.ready  ## TensorRT's Python names of several versions, for the tests; without network those skip
	-$(BIN)/python -m tests.tools.bindings

node:  ## an OPC UA client of another stack, for the tests; without npm or network those skip
	-test ! -f tests/node/package.json || npm install --prefix tests/node --no-package-lock --no-audit --no-fund --loglevel=error

TRIGGERS ?= 10000
SEED ?= 1
chaos: $(BIN)/.ready  ## a station under random faults: every trigger has exactly one verdict, none is OK by fault
	$(BIN)/python -m tests.chaos --triggers $(TRIGGERS) --seed $(SEED)

SECONDS ?= 600
soak-camera: $(BIN)/.ready  ## a GigE Vision camera, simulated by libaravis: every frame accounted for, memory flat
	$(BIN)/python -m tests.tools.stream_soak --seconds $(SECONDS)

check: $(BIN)/.ready  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BIN)/.ready  ## the README's accuracy figures; DATA=folder of labelled sets
	$(BIN)/python -m judo_edge.figures --out $(BENCH) $(if $(DATA),--data $(DATA))

recipes: $(BIN)/.ready  ## every recipe against float32, JUDO-nano; DATA=folder of labelled sets
	$(BIN)/python -m judo_edge.recipefigures --out $(BENCH)-recipes --data $(DATA)

decision: $(BIN)/.ready  ## signs of a defect alone and combined at a stated budget; DATA=folder of labelled sets
	$(BIN)/python -m judo_edge.decisionfigures --out $(BENCH)-decision --data $(DATA)
	$(BIN)/python -m judo_edge.decisionfigures --conformal

nano: $(BIN)/.ready  ## remake the shipped JUDO-nano from nothing (about 100 minutes on two cores)
	$(BIN)/python -m judo_edge.adapt --out build/judo-nano

clean:
	rm -rf $(VENV) $(RUN) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
