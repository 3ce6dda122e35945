# `make` alone lists what there is. Every target sets up .venv by itself, once.

.DEFAULT_GOAL := help
.PHONY: help setup run quick test test-all nightly fuzz soak other-cpu gpu check format docs data-test

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

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: antiphon needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "setting up $(VENV), once: (1/2) torch, $(if $(CPU_TORCH),for CPUs: 0.2 GB,on Linux with CUDA: 2.1 GB)"
	@$(BIN)/python -m pip install --disable-pip-version-check --retries 1 torch -c constraints.txt $(CPU_TORCH)
	@echo "setting up $(VENV), once: (2/2) antiphon and its tools, 0.2 GB"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

run: $(STAMP) ## four networks read a text at four rates, and learn without waiting for the slowest; then the table and how to open TensorBoard
	@$(BIN)/antiphon study clockwork -v locked -v detached -v decoupled --seeds 1 --jobs 2 --logdir runs/make-run

quick: $(STAMP) ## run the tests for the inner loop: every part by itself, and numerics/ of the whole (under a minute)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q tests/test_layers.py tests/nets tests/envs tests/comms \
		tests/agents tests/scenarios tests/telemetry tests/numerics

test: $(STAMP) ## run the tests, and with them the examples of the README and of docs/
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q

test-all: $(STAMP) ## run the tests with the longer ones: all documents in every way of running, all examples, clusters
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not nightly and not data and not gpu"

nightly: $(STAMP) ## run what takes minutes: clusters that lose machines, the gallery in full
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m nightly

# CASES: inputs that each test tries. SEED: of the first one.
CASES ?= 2000
SEED ?= 0

fuzz: $(STAMP) ## try hostile documents and drawn scenarios (CASES=2000 of each, hours); a failure names its seed
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not gpu" tests/fuzz tests/contracts/test_contracts.py::test_drawn_documents --cases $(CASES) --seed $(SEED)

# How often each soak test repeats itself: 25 kill -9 of each of nine commands, among others.
ROUNDS ?= 25

soak: $(STAMP) ## kill runs at random moments, fill disks, run for long (ROUNDS=25 of each, half an hour)
	@$(BIN)/python -m pytest -q -m "not gpu" tests/soak --rounds $(ROUNDS)

# TESTS: what runs with other kernels; CI takes those that compare numbers.
TESTS ?= tests
other-cpu: $(STAMP) ## run the tests as on processors of other kinds: without AVX-512, without any vectors, with two threads
	@.ci/other-cpu $(BIN)/python $(TESTS)

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

format: $(STAMP) ## rewrite the code in the one format, sort its imports, renew the generated tables of docs/
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .
	$(BIN)/python docs/generated.py

docs: $(STAMP) ## build the documentation site into docs/_build/html; a warning is an error
	@$(BIN)/python -m sphinx -W --keep-going -q -E -b html -d docs/_build/doctrees docs docs/_build/html

data-test: $(STAMP) ## run the tests that need MNIST in the folder that ANTIPHON_DATA names
	@test -n "$$ANTIPHON_DATA" || { echo "make data-test: set ANTIPHON_DATA to a folder that holds mnist/*-ubyte[.gz]" >&2; exit 2; }
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m data
