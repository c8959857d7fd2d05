"""The agent's side of the step socket, a process of its own: `python -m training.bench.listening SOCKET`. No Django.

Runs until its standard input ends; then writes one line of JSON: {"seconds": {sequence: seconds}} as the server would read them.
"""

import json
import sys
import threading
from pathlib import Path

from telemetry.agent.steps import StepListener
from training.host.steps import StepHold
from training.steps import blocks

BATCH_SECONDS, _MOST_BYTES = 5.0, 1_000_000


def run(path: Path) -> None:
    hold, pieces, ending = StepHold(), list[bytes](), threading.Event()
    listener = StepListener(path)
    listener.register(hold.put)
    listener.start()
    threading.Thread(target=_wait_for_end, args=(ending,), daemon=True).start()
    while not ending.wait(BATCH_SECONDS):
        pieces += hold.take(_MOST_BYTES)
    listener.stop()
    while taken := hold.take(_MOST_BYTES):
        pieces += taken
    seconds: dict[int, float] = {}
    for block in map(blocks.read, pieces):
        seconds.update(zip(block.steps.number.tolist(), block.steps.seconds.tolist(), strict=True))
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


def _wait_for_end(ending: threading.Event) -> None:
    sys.stdin.read()
    ending.set()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
