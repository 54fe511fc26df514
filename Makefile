# The tasks of this repository; `make` alone lists them. A new machine needs only Python 3.11 or newer and make.
#
# Dependencies are installed into .venv from the lock files, which pin every package by its hash. `make VENV=DIR …`
# uses an existing environment as it is and installs nothing.

PYTHON ?= python3

ifeq ($(origin VENV),undefined)
VENV := .venv
RUNTIME := $(VENV)/.installed
TOOLS := $(VENV)/.installed-dev
# If the Python of the environment was removed or replaced, the environment is created again.
ifneq ($(shell $(VENV)/bin/python -c 'import encodings' >/dev/null 2>&1 && echo works),works)
.PHONY: $(RUNTIME)
endif
endif

PY := $(VENV)/bin/python
# Run pip. Its output is shown only if it fails, and without the names of hosts.
define install
	@said=$$($(PY) -m pip --disable-pip-version-check --no-input -q install $(1) 2>&1) || { \
		printf '%s\n' "$$said" | sed -E "s#https?://[^/ ]+#https://…#g; s#host='[^']*'#host=…#g" >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: help install deb demo run test test-all test-packages coverage check check-format check-lint check-architecture check-layers check-types bench soak soak-processes bugs tables clean release image sbom

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 28

demo: $(RUNTIME) ## Run a reference API with faults and the daemon against it; DEMO_SECONDS=25 ends it after 25 s
	@$(PY) -m allocsync demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

run: $(RUNTIME) ## Run the daemon, with settings from ALLOCSYNC_* and ARGS="--config FILE"
	@$(PY) -m allocsync $(ARGS) run

# Where `make install` puts the files, and where they will be found: DESTDIR=image PREFIX=/usr.
DESTDIR :=
PREFIX := /usr/local
UNIT_DIR := $(PREFIX)/lib/systemd/system
SHARE := $(DESTDIR)$(PREFIX)/share
ZSH_DIR := site-functions
# `no` leaves the bytecode to a package's scripts.
COMPILE := yes

install: ## Install for good, with the locked packages and the systemd units; DESTDIR= PREFIX=/usr/local
	@$(PYTHON) deploy/bundle.py --destdir "$(DESTDIR)" --prefix "$(PREFIX)" $(if $(filter no,$(COMPILE)),--no-compile)
	@install -d "$(DESTDIR)$(UNIT_DIR)" "$(SHARE)/man/man1" "$(SHARE)/bash-completion/completions" \
		"$(SHARE)/zsh/$(ZSH_DIR)" "$(SHARE)/fish/vendor_completions.d" "$(SHARE)/doc/allocsync/examples"
	@for unit in systemd/*.service; do \
		sed 's#/usr/bin/allocsync#$(PREFIX)/bin/allocsync#' "$$unit" >"$(DESTDIR)$(UNIT_DIR)/$${unit##*/}" && \
		chmod 644 "$(DESTDIR)$(UNIT_DIR)/$${unit##*/}" || exit; done
	@umask 022; say="$(DESTDIR)$(PREFIX)/lib/allocsync/bin/python3 -I -B -m allocsync"; \
		$$say manual >"$(SHARE)/man/man1/allocsync.1" && \
		$$say completion bash >"$(SHARE)/bash-completion/completions/allocsync" && \
		$$say completion zsh >"$(SHARE)/zsh/$(ZSH_DIR)/_allocsync" && \
		$$say completion fish >"$(SHARE)/fish/vendor_completions.d/allocsync.fish"
	@install -m 644 config/*.yaml config/*.json systemd/*.conf "$(SHARE)/doc/allocsync/examples"
	@install -m 644 README.md CHANGELOG.md LICENSE "$(SHARE)/doc/allocsync"
	@install -m 644 deploy/README.md "$(SHARE)/doc/allocsync/deploy.md"

SUITES := bookworm trixie
OUT := dist
deb: ## Build the Debian packages into dist/, as root; SUITES="bookworm trixie"
	@mkdir -p "$(OUT)"
	@for suite in $(SUITES); do deploy/build_deb.sh $$suite "$(OUT)" || exit; done

ALL_CORES := -n auto --dist worksteal
test: $(TOOLS) ## Run the fast tier of the tests on all cores; ARGS="-k journal" selects some
	@$(PY) -m pytest $(ALL_CORES) $(ARGS)

test-all: $(TOOLS) ## Run all tests on all cores: the slow ones too, and five times as many random cases
	@$(PY) -m pytest --tier=all $(ALL_CORES) $(ARGS)

test-packages: $(TOOLS) ## Build packages and images, and test them in systems of their own (15 minutes, as root)
	@$(PY) -m pytest --tier=packages tests/packaging $(ARGS)

# The tests start hundreds of processes. Without cached bytecode each of them would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

# The seed is fixed, so that the same code always has the same coverage.
COVERED := tests/unit/model tests/unit/planning tests/unit/journal tests/unit/desired/test_export.py \
	tests/simulation/engine/test_replay.py \
	$(filter-out %/test_load.py,$(shell find tests/unit/reconcile tests/simulation/scenarios -name 'test_*.py')) \
	tests/unit/reconcile/scheduling/test_load.py::test_a_429_to_a_read_delays_all_reads_for_its_retry_after
coverage: $(TOOLS) ## Check that the tests of model, planning and reconcile take every branch
	@$(PY) -m pytest -q --tier=all $(ALL_CORES) --hypothesis-seed=0 $(COVERED) --cov=allocsync.model --cov=allocsync.planning --cov=allocsync.reconcile \
		--cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

check: check-architecture check-format check-lint check-layers check-types ## Run all checks that do not run the tests

check-format: $(TOOLS) ## Check the format (ruff format)
	@$(PY) -m ruff format --check --quiet --diff .

check-lint: $(TOOLS) ## Check the code (ruff, all rules)
	@$(PY) -m ruff check --quiet .

check-architecture: $(TOOLS) ## Check the imports of pure modules, and the names of files and folders
	@$(PY) tests/architecture/purity.py

check-layers: $(TOOLS) ## Check which layer imports which (import-linter)
	@$(VENV)/bin/lint-imports --no-logo --no-cache

check-types: $(TOOLS) ## Check the types (mypy, strict)
	@$(PY) -m mypy

bench: $(TOOLS) ## Measure speed, outages, and storms beside other clients (an hour; STORMS=50 for one storm); then `make tables`
	@$(if $(STORMS),,$(PY) -m tests.benchmarks.run && $(PY) -m tests.benchmarks.outages &&) $(PY) -m tests.benchmarks.storm_run $(if $(STORMS),storms --storms "$(STORMS)")

soak: $(TOOLS) ## Simulate schedules on all cores for MINUTES=10, from SEED=n on; then `make tables`
	@$(PY) -m tests.simulation.run soak --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

soak-processes: $(TOOLS) ## Inject faults between real processes for MINUTES=10; SEED=n repeats a run
	@$(PY) -m tests.soak.run --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

bugs: $(TOOLS) ## Measure how soon the simulation finds each planted bug; then `make tables`
	@$(PY) -m tests.simulation.run bugs

release: $(TOOLS) ## Build wheel, sdist and SBOM of the committed version into dist/, twice, and compare
	@$(PY) deploy/release.py

tables: $(TOOLS) ## Generate the tables of all documents, the operator's rules and the dashboard
	@$(PY) -m tests.architecture.tables
	@$(PY) deploy/prometheus/operator_rules.py >deploy/prometheus/prometheusrule.yaml
	@$(PY) deploy/grafana/dashboard.py >deploy/grafana/allocsync.json

VERSION := $(shell sed -nE 's/^__version__ = "(.*)"/\1/p' allocsync/__init__.py)
WHEEL := dist/allocsync-$(VERSION)-py3-none-any.whl
SBOM := dist/allocsync-$(VERSION).cdx.json
# The time of everything that is built: that of the commit, so that the same commit gives the same bytes.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 315532800)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)

$(WHEEL): $(TOOLS) $(shell find allocsync -name '*.py') pyproject.toml README.md LICENSE
	@$(PY) -m hatchling build --target wheel --directory dist >/dev/null

$(SBOM): $(RUNTIME) requirements.lock deploy/sbom.py allocsync/__init__.py
	@mkdir -p dist && $(PY) deploy/sbom.py requirements.lock >$@.new && mv $@.new $@

sbom: $(SBOM) ## Write dist/allocsync-VERSION.cdx.json, which lists what the lock pins (CycloneDX)

# buildah and podman take the same options.
IMAGE ?= allocsync:$(VERSION)
CONTAINER_BUILDER ?= $(if $(shell command -v buildah),buildah,podman)
image: $(WHEEL) $(SBOM) ## Build the container image; BASE=IMAGE (and BUILD_BASE=) is what it is built on, IMAGE= its name
	@$(CONTAINER_BUILDER) build --quiet --file deploy/container/Containerfile --tag $(IMAGE) --timestamp $(SOURCE_DATE_EPOCH) \
		--build-arg VERSION=$(VERSION) $(if $(BASE),--build-arg BASE=$(BASE)) \
		$(if $(BUILD_BASE),--build-arg BUILD_BASE=$(BUILD_BASE)) \
		$(if $(REVISION),--label org.opencontainers.image.revision=$(REVISION)) \
		$(if $(SOURCE),--label org.opencontainers.image.source=$(SOURCE)) $(IMAGE_OPTIONS) .

clean: ## Remove the environment and all caches; demo/ stays
	@rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage

# The stamp files are written last, so that an interrupted installation is repeated.
.venv/.installed: requirements.lock
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is not installed. Install Python 3.11 or newer, or name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V); allocsync needs 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot create environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing what allocsync needs into .venv" >&2
	@$(PYTHON) -m venv --clear .venv
	$(call install,--require-hashes -r requirements.lock)
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.lock pyproject.toml
	@echo "installing what its tests need into .venv" >&2
	$(call install,--require-hashes -r requirements-dev.lock)
	$(call install,--no-deps --no-build-isolation -e .)
	@touch $@
