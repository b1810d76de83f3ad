# make study: everything from a clean clone to the report.  make test, make check: what CI runs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: study test test-slow test-cluster check audit sbom format docs notebooks bench bench-gpu

study: $(INSTALLED)
	dvc repro
	@echo
	@echo "The report is reports/index.html. To have something to compare the next run with, commit this one:"
	@echo "    git add dvc.lock data/source.json data/given_splits.csv && git commit -m 'First run'"

# two processes of one thread each: the one that is through first takes tests from the other
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses 2

test: $(INSTALLED)
	$(PYTEST) --dist worksteal -m 'not slow and not cluster'

# whole studies under dvc; the tests of a file, which read the same one, stay together
test-slow: $(INSTALLED)
	$(PYTEST) --dist loadfile -m 'slow and not cluster'

# on a real SLURM and a real Ray of several nodes on this machine; the tests of a file share one cluster
test-cluster: $(INSTALLED)
	$(PYTEST) --dist loadfile -m cluster tests/cluster

check: $(INSTALLED)
	ruff format --check
	ruff check
	mypy
	lint-imports

format: $(INSTALLED)
	ruff check --fix
	ruff format

# the pinned versions against known vulnerabilities, where PyPI can be reached
audit: $(INSTALLED)
	python .ci/audit.py

# the bill of materials of a release, in CycloneDX: every package of the environment that CI tests
sbom: $(INSTALLED)
	cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --mc-type application \
	    --output-reproducible --output-file sbom.cdx.json

# the documentation site, in site/html; `zensical serve` shows it in a browser
docs: $(INSTALLED)
	python docs/site_pages.py
	zensical build --strict

# runs the tutorial's notebooks and keeps their outputs in them; a few minutes
notebooks: $(INSTALLED)
	python docs/run_notebooks.py

# what docs/performance.md says of a processor; 40 minutes on two quiet cores
bench: export CUDA_VISIBLE_DEVICES :=
bench: $(INSTALLED)
	@failed=; for each in data training overhead checkpointing exports inference features figures inference_level predict_images report serve study; do python bench/$$each.py || failed=1; done; test -z "$$failed"

# what it says of a GPU, in under ten minutes
bench-gpu: $(INSTALLED)
	python bench/accelerator.py

.venv: $(INSTALLED)

# Python compiles what is imported, and most of what comes with the libraries never is
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
