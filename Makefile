# make demo	a first container, with what it sees and how long each step took
# make test	everything that is checked: what CI runs
#
# Both install what is missing, see integration/prepare.sh, into the system (apt-get) and into .venv.

PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := $(shell find pyocirun csrc integration/probe docs/man -name '*.py' -o -name '*.pyi' -o -name '*.json' -o -name '*.[ch]')
C_FILES := $(wildcard csrc/*.[ch] csrc/test/*.c integration/*/*.c)
PY_FILES := pyocirun csrc tests integration docs/man setup.py
# -P: `import pyocirun` finds the installed package and not the checkout, which lacks the C parts.
PYTEST := $(BIN)/python -P -m pytest -q -p no:cacheprovider
RUNTIME ?= $(abspath $(BIN)/pyocirun)

.PHONY: all demo test check format unit scenarios systemd engines engines-short engines-newer conformance critest vm vm-image vm-test vm-engines bench golden man build system clean

all: build

demo: build
	@$(BIN)/python -I integration/demo.py

# Not prerequisites of each other: with -j they would disturb each other's machine.
test: system build
	$(MAKE) check
	$(MAKE) unit
	$(MAKE) scenarios
	$(MAKE) systemd
	$(MAKE) engines-short
	$(MAKE) vm

check: system build
	$(BIN)/ruff format --check --quiet $(PY_FILES)
	$(BIN)/ruff check --quiet $(PY_FILES)
	$(BIN)/mypy
	clang-format --dry-run -Werror $(C_FILES)
	$(MAKE) -C csrc/test check

format:
	$(BIN)/ruff format --quiet $(PY_FILES)
	$(BIN)/ruff check --quiet --fix $(PY_FILES)
	clang-format -i $(C_FILES)

unit: build
	$(PYTEST) tests

scenarios: build
	RUNTIME=$(RUNTIME) $(PYTEST) integration/scenarios

# Under a systemd of their own, with the cgroups of version 1 that this machine has: see integration/systemd.py.
systemd: build
	RUNTIME=$(RUNTIME) $(BIN)/python -m integration.systemd $(PYTEST) integration/scenarios/test_systemd_v1.py

engines: build engines-newer
	RUNTIME=$(RUNTIME) $(PYTEST) integration/engines

# As a part of `make test`: what takes minutes is left out.
engines-short: build engines-newer
	RUNTIME=$(RUNTIME) $(PYTEST) -m 'not full' integration/engines

# The engines of Debian's unstable suite, unpacked and not installed: see integration/engines/newer.py.
engines-newer: build
	$(BIN)/python -m integration.engines.newer

conformance: build
	$(BIN)/python integration/conformance/run.py --runtime-tools "$(RUNTIME_TOOLS)" --runtime $(RUNTIME)

critest: build engines-newer
	$(BIN)/python -m integration.conformance.critest --newer --critest "$(CRITEST)" --runtime $(RUNTIME)

# A Debian with systemd and cgroup v2 in QEMU: see integration/vm/.
vm-image:
	integration/prepare.sh vm
	$(BIN)/python -m integration.vm build

# The scenarios with the mark vm, about cgroup v2, systemd and criu, as a part of `make test`.
vm: build
	$(BIN)/python -m integration.vm test --timeout 720 -- -m vm integration/scenarios

# The scenarios of engines in a larger guest, where their driver of cgroups is systemd and where it is not: an hour.
vm-engines: export PYOCIRUN_PATIENCE ?= 10
vm-engines: build vm-image
	$(BIN)/python -m integration.vm test --engines --timeout 10800 -- \
		$(or $(VM),-m 'guest and cgroups' integration/engines/test_common.py)

# All scenarios in the guest: half an hour each part, and as many guests at once as -j says; with VM=... what that says.
ifdef VM
vm-test: build vm-image
	$(BIN)/python -m integration.vm test --timeout 7200 $(VM)
else
vm-test: $(addprefix vm-test-,1 2 3 4)
endif

vm-test-%: build vm-image
	$(BIN)/python -m integration.vm test --timeout 7200 --part $*/4

bench: build
	$(BIN)/python integration/bench/bench.py $(BENCH)

golden: build
	$(BIN)/python tests/golden/update.py
	$(BIN)/python -P tests/api.py

man: build
	$(BIN)/python docs/man/pages.py

build: $(VENV)/built

$(VENV)/built: $(VENV)/ready $(SOURCES) setup.py
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --force-reinstall .
	@touch $@

$(VENV)/ready: pyproject.toml
	integration/prepare.sh build
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check 'setuptools>=77' 'cffi>=1.16' 'jeepney>=0.8'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation '.[dev]'
	@touch $@

system:
	integration/prepare.sh test

clean:
	rm -rf build *.egg-info $(VENV)
