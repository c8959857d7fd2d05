"""The tail of a job's log, line by line. Called by the job page; the whole log is the download's."""

import re
from dataclasses import dataclass

from training.message.wire import MAX_LOG_CHARACTERS

TAIL_LINES = 200
MOST_CHARACTERS = 2_000  # of a line: the page gets its tail each second, and a program may write without an end of line
_TIMED = re.compile(r"(?P<time>(?:\d{4}-\d{2}-\d{2}[T ])?\d{2}:\d{2}:\d{2}(?:[.,]\d+)?Z?)\s(?P<text>.*)")
_TROUBLE = re.compile(r"(error|warning|exception|traceback|killed|out of memory)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    time: str
    text: str
    is_trouble: bool


@dataclass(frozen=True, slots=True)
class Tail:
    """The last lines of a log of `total` lines; `is_cut` where the host has let go of its beginning."""

    lines: list[Line]
    total: int
    is_cut: bool = False

    @property
    def is_timed(self) -> bool:
        return any(line.time for line in self.lines)


def tail(log: str) -> Tail:
    lines = log.splitlines()
    return Tail([_line(line) for line in lines[-TAIL_LINES:]], len(lines), len(log) >= MAX_LOG_CHARACTERS)


def _line(line: str) -> Line:
    if len(line) > MOST_CHARACTERS:
        line = f"{line[:MOST_CHARACTERS]} … and {len(line) - MOST_CHARACTERS:,} more characters"
    timed = _TIMED.fullmatch(line)
    time, text = (timed["time"], timed["text"]) if timed else ("", line)
    return Line(time, text, bool(_TROUBLE.search(text)))
