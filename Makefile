# Stepwatt: `make up` runs it, `make demo` with a simulated fleet, `make test` tests it. Both make .venv first; PYTHON=… chooses another interpreter.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --quiet --disable-pip-version-check

.PHONY: up demo test frameworks soak bench screenshots lighthouse lint

up: .venv/installed
	@exec .venv/bin/python manage.py up

demo: .venv/installed
	@exec .venv/bin/python manage.py up --demo

test: .venv/installed-for-tests
	@exec .venv/bin/python -m pytest --numprocesses 3 --dist loadscope

# The training frameworks that the client's callbacks are tested with, apart from .venv: without them those tests are skipped.
frameworks: .venv-frameworks/torch/installed .venv-frameworks/tensorflow/installed

soak: .venv/installed-for-tests
	@SOAK_TIMES=$${SOAK_TIMES:-20} exec .venv/bin/python -m pytest tests/soak

bench: .venv/installed
	@exec .venv/bin/python manage.py bench

# Pictures of every page, from a simulated fleet and recorded data; needs Chromium.
screenshots: .venv/installed-for-tests
	@exec .venv/bin/python -m tests.screenshots

# Lighthouse, desktop preset, on four pages of the same fleet; needs Chromium and npm. Its performance wants a quiet machine.
lighthouse: .venv/installed-for-tests
	@exec .venv/bin/python -m tests.lighthouse

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
	@$(PIP) install --requirement requirements.txt
	@touch $@

.venv/installed-for-tests: tests/requirements.txt .venv/installed
	@$(PIP) install --requirement tests/requirements.txt
	@touch $@

# PyTorch's take torch itself, a gigabyte, from .venv.
.venv-frameworks/torch/installed: tests/frameworks/requirements-torch.txt .venv/installed-for-tests
	@echo "Installing Lightning and Transformers into .venv-frameworks/torch"
	@$(PYTHON) -m venv --clear --without-pip .venv-frameworks/torch
	@.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	$$(.venv-frameworks/torch/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/requirements-of-stepwatt.pth
	@$(PIP) --python .venv-frameworks/torch/bin/python install --requirement $< --constraint requirements.txt
	@touch $@

.venv-frameworks/tensorflow/installed: tests/frameworks/requirements-tensorflow.txt | .venv/bin/pip
	@echo "Installing TensorFlow into .venv-frameworks/tensorflow (1.5 GB)"
	@$(PYTHON) -m venv --clear --without-pip .venv-frameworks/tensorflow
	@$(PIP) --python .venv-frameworks/tensorflow/bin/python install --requirement $<
	@touch $@
