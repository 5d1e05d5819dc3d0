# vnbench: `make bench` measures this node, `make test` runs all tests that need no GPU.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUITE ?= quick
HOGS ?= 0
MINUTES ?= inf
PYTEST_OPTIONS ?=
PEERS_OPTIONS ?=
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: bench test test-gpu benchmarks peers proof proof-accept clean

bench: $(VENV)/.installed
	$(BIN)/vnbench run $(SUITE)

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not gpu" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS)

test-gpu: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m gpu $(PYTEST_OPTIONS)

benchmarks: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only $(PYTEST_OPTIONS)

# The first time it installs and compiles others' programs into .peers; then about half an hour, and it goes on where it stopped.
peers: $(VENV)/.installed
	$(BIN)/python -m tests.peers $(PEERS_OPTIONS)

# Hours; it goes on where it stopped. HOGS=2 records what two busy processes beside it do.
proof: $(VENV)/.installed-test
	$(BIN)/python -m tests.proof.record --hogs $(HOGS)
	$(BIN)/python -m tests.proof.report

# Some 25 minutes; it goes on where it stopped. MINUTES=10 begins no acceptance after ten.
proof-accept: $(VENV)/.installed-test
	$(BIN)/python -m tests.proof_accept.record --minutes $(MINUTES)
	$(BIN)/python -m tests.proof_accept.report

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vnbench needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing vnbench and its libraries into $(VENV): this takes some minutes the first time"
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[test]'
	@# The tests compile a stand-in for NVIDIA's library.
	command -v cc || command -v gcc || command -v clang || $(PIP_INSTALL) ziglang
	@touch $@

clean:
	rm -rf $(VENV) .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis
