# make run: start the page · make test: everything a change must pass · make soak: what takes longer · make fix: format and repair what ruff can
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
TOO_OLD = Trojan Noise needs Python 3.11 or newer; name one with make PYTHON=...

.PHONY: run test soak fix clean

run: $(VENV)/.run
	$(BIN)/python app.py

# One thread: a process that is forked after OpenMP has used several waits for them for ever. Two processes share the files.
test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
		|| echo '*** NO CHROMIUM FOUND: THE BROWSER TESTS ARE SKIPPED (REQUIRE_BROWSER=1 makes that a failure) ***'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

soak: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak

fix: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than the requirements they installed; the first installation fetches torch and takes minutes.
$(VENV)/.run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(TOO_OLD)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt requirements-ray.txt requirements-slurm.txt requirements-mcp.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@
