# make quickstart | make test | make kernels | make lint | make bench | make results | make results-check

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
# The CUDA extra that fits the driver, where there is one: nvidia-smi prints "CUDA Version: 13.0".
CUDA := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: \([0-9]*\).*/\1/p')
TOO_OLD := $(filter 1 2 3 4 5 6 7 8 9 10 11,$(CUDA))
TOLD = @echo "a GPU needs CUDA 12 or newer and this driver ends at CUDA $(CUDA): going on with the CPU"
EXTRA := $(if $(TOO_OLD),,$(if $(filter 12,$(CUDA)),cuda12,$(if $(CUDA),cuda13)))

.PHONY: quickstart test test-all kernels lint bench results results-check clean

quickstart: $(VENV)/.run
	$(BIN)/convbench run quick --quick --directions fwd --plans 4 --out results/quickstart --report

test: $(VENV)/.test
	$(BIN)/pytest -n auto --dist loadfile -m "not slow" $(COVERAGE)

test-all: $(VENV)/.test
	$(BIN)/pytest -n auto

kernels: $(VENV)/.test
	$(BIN)/pytest -n auto tests/test_kernels.py

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	sh tests/typing-tree.sh .typing
	cd .typing && ../$(BIN)/mypy --config-file ../pyproject.toml -p convbench

bench: $(VENV)/.test
	$(BIN)/pytest tests/bench/bench_*.py --benchmark-only -s

# Tables and pictures of README and docs that come from the records in results/: made anew, or compared.
results: $(VENV)/.test
	$(BIN)/python results/derive.py
	$(BIN)/python results/pictures.py

results-check: $(VENV)/.test
	$(BIN)/python results/derive.py --check
	$(BIN)/python results/pictures.py --check

clean:
	rm -rf $(VENV) .typing build dist *.egg-info

# One stamp a set of packages: made again when pyproject.toml changes.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { echo "no virtual environment: $(PYTHON) needs its venv module (Debian: apt install python3-venv)"; exit 1; }

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(if $(TOO_OLD),$(TOLD))
	$(INSTALL) -e "."$(if $(EXTRA),"[$(EXTRA)]")
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[test]"
	touch $@

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[test,lint]"
	touch $@
