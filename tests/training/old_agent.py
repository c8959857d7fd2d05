"""What an agent of the release before sends: steps in a message of their own, not along with a batch."""

from collections.abc import Sequence
from dataclasses import asdict

import msgpack

from training.message import wire
from training.message.wire import StepTiming


def message_of(sender: str, steps: Sequence[StepTiming]) -> bytes:
    return msgpack.packb({"v": wire.VERSION, "host": sender, "steps": [asdict(step) for step in steps]})
