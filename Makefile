# `make demo` and `make test` do all their set-up on a fresh machine.
#
#   make demo [ARGS=--once]   the whole way, from console request to pixels, against a simulator
#   make test                 lint, type check, unit and functional tests
#   make test-integration     the filter inside a real Nova with a real Keystone
#   make fuzz [SECONDS=60]    hostile bytes into every parser, so long for each
#   make bench                the relay and the token beside their peers
#   make soak                 10,000 sessions on two workers
#   make lint | docs | clean

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PAGE = mksfilter/proxy/web/static/novnc/console.js

.PHONY: demo test test-integration fuzz bench soak lint docs clean setup tools page

demo: $(VENV)/.demo $(PAGE)
	$(BIN)/mksfilter demo $(ARGS)

test: setup tools lint
	$(BIN)/python -m pytest -m "not integration" $(ARGS)

test-integration: setup tools
	$(BIN)/python -m pytest -m integration $(ARGS)

fuzz: setup
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(ARGS)

bench: setup tools
	$(BIN)/python -m benchmarks $(ARGS)

soak: setup
	$(BIN)/python -m benchmarks.soak $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: setup
	$(BIN)/pip install -q "sphinx>=7" "myst-parser>=3" && $(BIN)/sphinx-build -W -q docs docs/_build

setup: $(VENV)/.test $(PAGE)

# What the demo needs, and what the tests need beside it.
$(VENV)/.demo: EXTRA = simulator
$(VENV)/.test: EXTRA = test
$(VENV)/.demo $(VENV)/.test: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e ".[$(EXTRA)]"
	@touch $@

# noVNC comes from npm and is never committed; the lock file pins it by digest.
page: $(PAGE)

$(PAGE): page/package.json page/package-lock.json $(wildcard page/src/*.js) mksfilter/exceptions.py tools/reasons
	tools/build-page

# What the tests run against: Chromium, QEMU, Xvnc, HAProxy, nginx, memcached, redis, govmomi.
tools:
	@tools/install-test-tools

clean:
	rm -rf $(VENV) build dist var docs/_build mksfilter/proxy/web/static/novnc page/node_modules
