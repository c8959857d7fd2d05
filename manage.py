#!/usr/bin/env python
"""Stepwatt's management commands; `make up` calls `manage.py up`."""

import os
import sys
from importlib import import_module

from django.core.management import execute_from_command_line

from fleet.environment.env import EnvironmentInvalid

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    try:
        import_module("fleet.settings")
    except OSError as error:  # the first start makes the secrets in the data directory
        sys.exit(f"stepwatt: the data directory cannot be used ({error}); set STEPWATT_DATA_DIR to another")
    except (EnvironmentInvalid, ValueError) as error:
        sys.exit(f"stepwatt: {error}")
    execute_from_command_line(sys.argv)
