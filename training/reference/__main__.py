"""One reference job as a process of its own; start.py comes before it.

Started by the agent's job runner on the job's interpreter. Exit status 0 with a result, 1 with a reason.
"""

import argparse
import sys
import traceback

from training.reference import order as orders
from training.reference import parent
from training.reference.events import Events


def main() -> int:
    parser = argparse.ArgumentParser(prog="training/reference/start.py")
    parser.add_argument("--parent", type=int, required=True, help="the agent's process id; the job ends with it")
    parser.add_argument("--events-fd", type=int, required=True, help="an open pipe for events, one JSON line each")
    arguments = parser.parse_args()
    parent.die_with(arguments.parent)
    events = Events(arguments.events_fd)
    try:
        from training.reference import harness

        events.result(harness.run(orders.read(sys.stdin.read()), events))
    except orders.CannotRun as error:
        events.failure(str(error))
        return 1
    except Exception as error:  # noqa: BLE001 — the process's outermost call: every end has its reason
        traceback.print_exc()
        events.failure(reason_of(error))
        return 1
    return 0


def reason_of(error: Exception) -> str:
    """Return the reason in a person's words; running out of memory has several names in torch."""
    first_line = next(iter(str(error).splitlines()), "")
    is_memory = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    if is_memory or "not enough memory" in first_line or "can't allocate memory" in first_line:
        return f"out of memory: {first_line or 'an allocation was refused'}; a smaller batch_size needs less"
    notes: list[str] = getattr(error, "__notes__", [])
    return "; ".join([f"{type(error).__name__}: {first_line}", *notes])


if __name__ == "__main__":
    sys.exit(main())
