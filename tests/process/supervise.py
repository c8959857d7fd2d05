"""A supervisor over stand-in children, run as a process of its own: `python -m tests.process.supervise SPEC`.

SPEC is JSON: {"children": [{"name", "argv", "ends_last"}…], "stop_seconds"}.
"""

import json
import os
import sys
from pathlib import Path

from fleet.up.child import Child
from fleet.up.supervisor import Console, Supervisor


def main() -> None:
    spec = json.loads(sys.argv[1])
    children = [
        Child(child["name"], tuple(child["argv"]), Path.cwd(), os.environ, ends_last=child["ends_last"])
        for child in spec["children"]
    ]
    console = Console(sys.stdout.buffer, ("up", *(child.name for child in children)))
    with Supervisor(console, own_name="up", stop_seconds=spec["stop_seconds"]) as supervisor:
        for child in children:
            supervisor.start(child)
        supervisor.run()


if __name__ == "__main__":
    main()
