# Two commands do everything on a fresh machine with Python 3.11 or later and make:
#   make demo    map a synthetic disaster and say how right the map is
#   make test    all tests
# The rest: make lint, make bench, make weights, make docs, make web, make clean.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench weights docs web install clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools ".[dev]"
	touch $(READY)

# A plain install, not an editable one: the import rules and mypy are checked on what users get.
install: $(READY)
	rm -rf build/lib build/bdist.*
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall .

demo: install
	$(BIN)/aftermap demo

# Two processes on two cores: with more threads each, they would wait for one another.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p aftermap
	$(BIN)/lint-imports

bench: install
	$(BIN)/python benchmarks/run.py

weights: install
	MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456 \
	  $(BIN)/aftermap train --bundled  # memory that is not given back need not be faulted in again
	cp build/weights/fc-siam-diff.safetensors build/weights/fc-siam-diff.json models/weights/

docs: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt mkdocs-material
	$(BIN)/mkdocs build --strict

# The report's page and the app, from TypeScript to the files inside the package; the only target that
# needs Node.
web:
	cd web/report && npm ci && npm run build
	cd web/app && npm ci && npm run build

clean:
	rm -rf $(VENV) build dist site *.egg-info
