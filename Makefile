# make study: everything from a clean clone to the report.  make test, make check: what CI runs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: study test test-slow check format bench bench-gpu

study: $(INSTALLED)
	dvc repro
	@echo
	@echo "The report is reports/index.html. To have something to compare the next run with, commit this one:"
	@echo "    git add dvc.lock data/source.json data/sides.csv && git commit -m 'First run'"

# two files of tests at a time, each in one thread
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)
	$(PYTEST) -m 'not slow'

# what takes a whole study under dvc
test-slow: $(INSTALLED)
	$(PYTEST) -m slow

check: $(INSTALLED)
	ruff format --check
	ruff check
	mypy
	lint-imports

format: $(INSTALLED)
	ruff check --fix
	ruff format

# what docs/performance.md says of a processor; 20 minutes on two quiet cores
bench: export CUDA_VISIBLE_DEVICES :=
bench: $(INSTALLED)
	@failed=; for each in data training overhead inference features figures report study; do python bench/$$each.py || failed=1; done; test -z "$$failed"

# what it says of a GPU, in under ten minutes
bench-gpu: $(INSTALLED)
	python bench/accelerator.py

.venv: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
