"""The tail of a job's log, line by line. Called by the job page; the whole log is the download's."""

import re
from dataclasses import dataclass

TAIL_LINES = 200
_TIMED = re.compile(r"(?P<time>(?:\d{4}-\d{2}-\d{2}[T ])?\d{2}:\d{2}:\d{2}(?:[.,]\d+)?Z?)\s(?P<text>.*)")
_TROUBLE = re.compile(r"(error|warning|exception|traceback|killed|out of memory)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    time: str
    text: str
    is_trouble: bool


@dataclass(frozen=True, slots=True)
class Tail:
    """The last lines of a log of `total` lines."""

    lines: list[Line]
    total: int

    @property
    def is_timed(self) -> bool:
        return any(line.time for line in self.lines)


def tail(log: str) -> Tail:
    lines = log.splitlines()
    return Tail([_line(line) for line in lines[-TAIL_LINES:]], len(lines))


def _line(line: str) -> Line:
    timed = _TIMED.fullmatch(line)
    time, text = (timed["time"], timed["text"]) if timed else ("", line)
    return Line(time, text, bool(_TROUBLE.search(text)))
