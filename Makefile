# `make` alone lists what there is. Every target sets up .venv by itself, once.

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all nightly gpu check format docs

# The first Python that is new enough; PYTHON=... on the command line chooses another.
PYTHON ?= $(firstword $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name"; done))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# On Linux without an NVIDIA GPU torch's build for CPUs is taken, a tenth of the size of the one with CUDA.
CPU_TORCH := $(shell [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null || echo --extra-index-url https://download.pytorch.org/whl/cpu)

# One thread per process: the tests and the studies run as several processes.
export OMP_NUM_THREADS ?= 1
# Images of containers often set it: each of the hundreds of processes of the tests would compile all files anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install antiphon and the tested versions of its tools into .venv

# Not compiled: of 16,000 files of packages few are ever imported, and these are compiled then.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: antiphon needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "setting up $(VENV), once: (1/2) torch, $(if $(CPU_TORCH),for CPUs: 0.2 GB,on Linux with CUDA: 2.1 GB)"
	@$(BIN)/python -m pip install --no-compile --disable-pip-version-check --retries 1 torch -c constraints.txt $(CPU_TORCH)
	@echo "setting up $(VENV), once: (2/2) antiphon and its tools, 0.2 GB"
	@$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

run: $(STAMP) ## four networks read a text at four rates, and learn without waiting for the slowest; then the table and how to open TensorBoard
	@$(BIN)/antiphon study clockwork -v locked -v detached -v decoupled --seeds 1 --jobs 2 --logdir runs/make-run

test: $(STAMP) ## run the tests, and with them the examples of the README and of docs/
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q

test-all: $(STAMP) ## run the tests with the longer ones: all documents in every way of running, all examples, clusters
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not nightly and not data and not gpu"

# ROUNDS: how often each soak test repeats itself.
ROUNDS ?= 25

nightly: $(STAMP) ## run what takes hours: the gallery and all documents in full, kills at random moments (ROUNDS)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m nightly
	@.ci/other-cpu $(BIN)/python tests/numerics
	@$(BIN)/python -m pytest -q -m "not data and not gpu" tests/soak --rounds $(ROUNDS)

gpu: $(STAMP) ## run the tests and the benchmarks that need a GPU (8 minutes), write benchmarks/results/gpu-<device>.json
	@$(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' \
		|| { echo "make gpu: torch finds no CUDA device on this machine" >&2; exit 2; }
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m gpu
	@$(BIN)/python benchmarks/gpu.py --save

check: $(STAMP) ## everything to run before a commit: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

format: $(STAMP) ## rewrite the code in the one format, sort its imports
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

docs: $(STAMP) ## build the documentation site into docs/_build/html; a warning is an error
	@$(BIN)/python -m sphinx -W --keep-going -q -E -b html -d docs/_build/doctrees docs docs/_build/html
