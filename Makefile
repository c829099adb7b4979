# The two commands of this project: `make report` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV   ?= .venv
STORE  ?= runs/embedded
OUT    ?= report
# Smallest penalty of interest, nats per token: 0.05 nats is a change of the next token's probability by 5 %.
SMALLEST ?= 0.05
# Tests side by side; each takes one core.
JOBS ?= 2

BIN := $(VENV)/bin
# Without compiling what is installed, most of which nobody imports: half a minute that a report need not wait.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

.PHONY: report test coverage clean

report: $(VENV)/.lens
	$(BIN)/transferstats run --smallest $(SMALLEST) --store $(STORE) --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# Nine minutes of one core when last measured; QUICK=--quick for less. Resumable.
coverage: $(VENV)/.dev
	$(BIN)/python analyses/validation/coverage.py $(QUICK)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("transferstats needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lens: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing transferstats and what it needs into $(VENV) (once; torch alone is some 200 MB)"
	$(PIP) -e '.[lens]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing transferstats with its test tools into $(VENV) (once)"
	$(PIP) -e '.[lens,pdf,dev]'
	@# Tests start many processes. Some packages ship files that do not compile, as test data: these are left.
	@$(BIN)/python -m compileall -q -j $(JOBS) $(VENV)/lib transferstats >/dev/null 2>&1 || true
	@touch $@ $(VENV)/.lens

clean:
	rm -rf $(VENV) $(OUT)
