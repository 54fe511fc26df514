# What there is to do here; `make` alone lists it. A fresh machine needs Python 3.11 or newer and make.
#
# Everything is installed into .venv from the locks, whose hashes say exactly what. `make VENV=DIR …` uses an
# environment of yours as it is and installs nothing.

PYTHON ?= python3

ifeq ($(origin VENV),undefined)
VENV := .venv
RUNTIME := $(VENV)/.installed
TOOLS := $(VENV)/.installed-dev
# An environment whose Python has gone, or has become another one, is made anew.
ifneq ($(shell $(VENV)/bin/python -c 'import encodings' >/dev/null 2>&1 && echo works),works)
.PHONY: $(RUNTIME)
endif
endif

PY := $(VENV)/bin/python
# pip, quiet when all is well; otherwise what it said, without the names of hosts, and its failure.
define install
	@said=$$($(PY) -m pip --disable-pip-version-check --no-input -q install $(1) 2>&1) || { \
		printf '%s\n' "$$said" | sed -E "s#https?://[^/ ]+#https://…#g; s#host='[^']*'#host=…#g" >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: help demo run test coverage check check-format check-lint check-architecture check-layers check-types bench soak soak-processes bugs tables clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 28

demo: $(RUNTIME) ## A reference API with faults, the daemon and its status page; DEMO_SECONDS=25 ends it by itself
	@$(PY) -m allocsync demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

run: $(RUNTIME) ## The daemon, with settings from ALLOCSYNC_* and ARGS="--config FILE"
	@$(PY) -m allocsync $(ARGS) run

ALL_CORES := -n auto --dist worksteal
test: $(TOOLS) ## All tests, on all cores; ARGS="-k journal" picks some
	@$(PY) -m pytest $(ALL_CORES) $(ARGS)

# The seed is fixed: the same code has the same coverage.
COVERED := tests/unit/model tests/unit/planning tests/unit/journal tests/unit/desired/test_export.py \
	tests/simulation/engine/test_replay.py \
	$(filter-out %/test_load.py,$(shell find tests/unit/reconcile tests/simulation/scenarios -name 'test_*.py')) \
	tests/unit/reconcile/scheduling/test_load.py::test_429_to_a_look_holds_all_looks_up_as_long_as_it_says
coverage: $(TOOLS) ## Every branch of model, planning and reconcile is taken by their own tests
	@$(PY) -m pytest -q $(ALL_CORES) --hypothesis-seed=0 $(COVERED) --cov=allocsync.model --cov=allocsync.planning --cov=allocsync.reconcile \
		--cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

check: check-architecture check-format check-lint check-layers check-types ## Everything that is checked without running

check-format: $(TOOLS) ## ruff format
	@$(PY) -m ruff format --check --quiet --diff .

check-lint: $(TOOLS) ## ruff, all rules
	@$(PY) -m ruff check --quiet .

check-architecture: $(TOOLS) ## What pure modules may import, sizes, names
	@$(PY) tests/architecture/purity.py

check-layers: $(TOOLS) ## Who may import whom
	@$(VENV)/bin/lint-imports --no-logo --no-cache

check-types: $(TOOLS) ## mypy, strict
	@$(PY) -m mypy

bench: $(TOOLS) ## Speed, and storms beside other clients: an hour, or STORMS=50 for one; then `make tables`
	@$(if $(STORMS),,$(PY) -m tests.benchmarks.run &&) $(PY) -m tests.benchmarks.storm_run $(if $(STORMS),storms --storms "$(STORMS)")

soak: $(TOOLS) ## Simulated schedules on all cores, for MINUTES=10; SEED=n begins there; then `make tables`
	@$(PY) -m tests.simulation.run soak --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

soak-processes: $(TOOLS) ## Everything that goes wrong, for MINUTES=10, between real processes; SEED=n repeats
	@$(PY) -m tests.soak.run --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

bugs: $(TOOLS) ## How soon the simulation finds each planted bug; then `make tables`
	@$(PY) -m tests.simulation.run bugs

tables: $(TOOLS) ## Write the tables of README.md anew
	@$(PY) -m tests.architecture.tables

clean: ## Remove what was installed and cached here; your demo/ stays
	@rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage

# The stamps are written last, so that an interrupted installation is done again.
.venv/.installed: requirements.lock
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is not there. Install Python 3.11 or newer, or name yours: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V); allocsync needs 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing what allocsync needs into .venv" >&2
	@$(PYTHON) -m venv --clear .venv
	$(call install,--require-hashes -r requirements.lock)
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.lock pyproject.toml
	@echo "installing what its tests need into .venv" >&2
	$(call install,--require-hashes -r requirements-dev.lock)
	$(call install,--no-deps --no-build-isolation -e .)
	@touch $@
