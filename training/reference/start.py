"""Where a job's process begins: `python -P start.py --parent PID --events-fd N < order.json`, as the agent starts it.

The job's interpreter may be any venv. It gets the package `training` from here, by itself: no folder comes on its path,
so that it sees neither what is installed beside the agent nor what lies in the directory that it runs in.
"""

import importlib.util
import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


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


if __name__ == "__main__":
    offer_package()
    from training.reference.__main__ import main

    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is told: in the interpreter's clean-up gloo's threads may abort a process that has done well
