"""Where a job's process begins: `python start.py --parent PID --events-fd N < order.json`, as the agent starts it.

The job's interpreter may be any venv. It gets the package `training` from here, by itself: no folder comes on its path
(PYTHONSAFEPATH is set), so that it sees neither what is installed beside the agent nor what lies in the directory that it runs
in. It may be an older Python, too, which must understand this file so far that it says so.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = (3, 11)


def offer_package() -> None:
    """Make `training` importable, whatever else has that name."""
    spec = importlib.util.spec_from_file_location(
        "training", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{PACKAGE} holds no package")
    module = importlib.util.module_from_spec(spec)
    sys.modules["training"] = module
    spec.loader.exec_module(module)


def refuse_old_python() -> None:
    """Say that this Python is too old, as the job's own reason, and end."""
    version, oldest = (".".join(map(str, each)) for each in (sys.version_info[:3], OLDEST_PYTHON))
    needs = f"reference jobs need {oldest} or newer; name another interpreter in STEPWATT_JOB_PYTHON"
    event = {"event": "failure", "reason": f"{sys.executable} is Python {version}: {needs}"}
    os.write(int(sys.argv[sys.argv.index("--events-fd") + 1]), json.dumps(event).encode() + b"\n")
    sys.exit(1)


if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST_PYTHON:
        refuse_old_python()
    offer_package()
    from training.reference.__main__ import main

    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is told: in the interpreter's clean-up gloo's threads may abort a process that has done well
