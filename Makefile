# Stepwatt: `make up` runs it, `make demo` with a simulated fleet, `make test` tests it. Both make .venv first; PYTHON=… chooses another interpreter.
PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: up demo test soak bench lint

up: .venv/installed
	@exec .venv/bin/python manage.py up

demo: .venv/installed
	@exec .venv/bin/python manage.py up --demo

test: .venv/installed-for-tests
	@exec .venv/bin/python -m pytest

soak: .venv/installed-for-tests
	@SOAK_TIMES=$${SOAK_TIMES:-20} exec .venv/bin/python -m pytest tests/soak

bench: .venv/installed
	@exec .venv/bin/python manage.py bench

lint: .venv/installed-for-tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy fleet telemetry training
	.venv/bin/lint-imports
	.venv/bin/python manage.py check --deploy --fail-level WARNING
	.venv/bin/python manage.py makemigrations --check --dry-run

# pip is the last thing that venv puts in: a creation that was broken off starts again.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "stepwatt: $(PYTHON) is missing or older than Python 3.11; install one, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "stepwatt: $(PYTHON) has no venv module; install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/pip
	@echo "Installing the requirements into .venv (minutes, the first time)"
	@$(PIP) --requirement requirements.txt
	@touch $@

.venv/installed-for-tests: tests/requirements.txt .venv/installed
	@$(PIP) --requirement tests/requirements.txt
	@touch $@
