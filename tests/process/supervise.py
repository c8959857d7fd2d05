"""A supervisor over stand-in children, run as a process of its own: `python -m tests.process.supervise SPEC`.

SPEC is JSON: {"children": [{"name", "code", "ends_last"}…], "stop_seconds"}; `code` is Python.
"""

import json
import os
import sys
from pathlib import Path

from fleet.child import Child
from fleet.supervisor import Console, Supervisor


def main() -> None:
    spec = json.loads(sys.argv[1])
    children = [
        Child(child["name"], (sys.executable, "-uc", child["code"]), Path.cwd(), os.environ, b"", child["ends_last"])
        for child in spec["children"]
    ]
    console = Console(sys.stdout.buffer, ("up", *(child.name for child in children)))
    with Supervisor(console, own_name="up", stop_seconds=spec["stop_seconds"]) as supervisor:
        for child in children:
            supervisor.start(child)
        supervisor.run()


if __name__ == "__main__":
    main()
