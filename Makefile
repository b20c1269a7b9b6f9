# `make demo` and `make test` do all their set-up on a fresh machine.
#
#   make demo [ARGS=--once]   the whole way, from console request to pixels, against a simulator
#   make unit                 what needs neither apt, npm nor a server: under a minute
#   make lint                 style, types, and who may import whom
#   make test                 lint, unit tests on each Python here, and all that runs real programs
#   make test-floors          the unit tests with the lowest release of each library
#   make test-integration     the filter inside a real Nova with a real Keystone
#   make mutants              changes of the pure cores that no test would notice
#   make fuzz [SECONDS=60]    hostile bytes into every parser, so long for each
#   make bench                the relay and the token beside their peers
#   make chaos                three nodes, hundreds of consoles, one fault after the other
#   make storm                sessions of dead nodes come back, past two slow vCenters
#   make soak                 10,000 sessions on two workers
#   make wheel                the wheel and the source archive into dist/, the same bytes each time
#   make sbom                 what they consist of, in CycloneDX's form
#   make release-notes        what has changed, for operators
#   make docs | clean
#
# ARGS are the test runner's, as in make unit ARGS="-k token".

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# What `make unit` is installed with: all tests' needs, or with UNIT=unit its own.
UNIT = test
# How many tests run side by side.
JOBS ?= logical
PYTEST = $(BIN)/python -m pytest --dist loadfile -n $(JOBS)
PAGE = mksfilter/proxy/web/static/novnc/console.js

.PHONY: demo unit test test-pythons test-floors mutants test-integration fuzz bench chaos storm soak lint wheel sbom release-notes docs clean setup tools page

demo: $(VENV)/.demo $(PAGE)
	$(BIN)/mksfilter demo $(ARGS)

unit: $(VENV)/.$(UNIT)
	$(PYTEST) -m unit $(COVERAGE) $(ARGS)

# The unit tests run first, before the page is built and programs are installed.
test: lint
	$(MAKE) unit COVERAGE="--cov --cov-report="
	$(MAKE) test-pythons
	$(MAKE) test-programs

test-programs: setup tools
	$(PYTEST) -m "not unit and not integration" --cov --cov-append $(ARGS)

# The unit tests on every other supported Python that is installed here.
test-pythons: $(VENV)/.test
	@set -e; for python in $$(tools/pythons $(BIN)/python); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "--- Python $$version"; \
	    $(MAKE) --no-print-directory unit UNIT=unit PYTHON=$$python VENV=.venv-$$version; \
	done

# The unit tests with the lowest release of each library that setup.cfg allows.
test-floors: $(VENV)/.test
	@test -x .venv-floors/bin/python || $(PYTHON) -m venv .venv-floors
	tools/floors > .venv-floors/constraints.txt
	.venv-floors/bin/pip install -q --disable-pip-version-check -c .venv-floors/constraints.txt -e ".[unit]"
	.venv-floors/bin/python -m pytest --dist loadfile -n $(JOBS) -m unit $(ARGS)

# Which changes of the pure cores no test would notice; takes an hour or more.
mutants: setup.cfg
	@test -x .venv-mutants/bin/python || $(PYTHON) -m venv .venv-mutants
	.venv-mutants/bin/pip install -q --disable-pip-version-check -e ".[unit]" "mutmut>=3.8"
	.venv-mutants/bin/mutmut run $(ARGS)
	.venv-mutants/bin/mutmut results

test-integration: setup tools
	$(BIN)/python -m pytest -m integration $(ARGS)

fuzz: setup
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(ARGS)

bench: setup tools
	$(BIN)/python -m benchmarks $(ARGS)

chaos: setup tools
	$(BIN)/python -m tests.chaos $(ARGS)

storm: setup
	$(BIN)/python -m benchmarks.storm $(ARGS)

soak: setup
	$(BIN)/python -m benchmarks.soak $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

wheel: page
	tools/build-wheel

sbom: wheel
	tools/sbom

release-notes: $(VENV)/.test
	@$(BIN)/reno report .

docs: setup
	$(BIN)/pip install -q "sphinx>=7" "myst-parser>=3" && $(BIN)/sphinx-build -W -q docs docs/_build

setup: $(VENV)/.test $(PAGE)

# What the demo needs; the unit tests; all tests.
$(VENV)/.demo: EXTRA = simulator
$(VENV)/.unit: EXTRA = unit
$(VENV)/.test: EXTRA = test
$(VENV)/.demo $(VENV)/.unit $(VENV)/.test: setup.cfg
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e ".[$(EXTRA)]"
	@touch $@

# noVNC comes from npm and is never committed; the lock file pins it by digest.
page: $(PAGE)

$(PAGE): page/package.json page/package-lock.json page/bundle.js page/messages.js $(wildcard page/src/*.js page/src/*/*.js) mksfilter/exceptions.py tools/reasons
	tools/build-page

# What the tests run against: Chromium, Firefox, QEMU, Xvnc, HAProxy, nginx, memcached, redis, govmomi.
tools:
	@tools/install-test-tools

clean:
	rm -rf .venv .venv-3.* build dist var docs/_build mksfilter/proxy/web/static/novnc mksfilter/proxy/web/static/v1 page/node_modules
