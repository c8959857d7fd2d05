"""Each one's turn in a pass over many hosts, groups, runs, jobs or targets: what breaks one of them keeps back no other.

Called by the loops of beat's tasks. Imports no app.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from django.db import InterfaceError, OperationalError

logger = logging.getLogger(__name__)
_OF_ALL = (OperationalError, InterfaceError)  # a database that is away or busy is so for all

Whose = TypeVar("Whose")
What = TypeVar("What")


class TurnFailed(Exception):
    """Somebody's turn failed; the log has each with its traceback."""


class Turns(Generic[Whose]):
    """The turns of one pass; `work` says for the log what is done with whom. `failed` has those whose turn failed."""

    def __init__(self, work: str) -> None:
        self.failed: list[Whose] = []
        self._work = work
        self._error: Exception | None = None

    @contextmanager
    def of(self, whose: Whose) -> Iterator[None]:
        """Have one its turn. What fails in it is logged, and the pass goes on; a database's absence is raised at once."""
        try:
            yield
        except _OF_ALL:
            raise
        except Exception as error:
            if not isinstance(error, TurnFailed):  # of a pass within this one, and logged there
                logger.exception("%s %s failed; the others go on", self._work, whose)
            self.failed.append(whose)
            self._error = error

    def of_many(self, many: Mapping[Whose, What], make: Callable[[Mapping[Whose, What]], int]) -> int:
        """Have many a turn together; where that fails, one after the other. Returns what was made, of all."""
        if len(many) > 1:
            try:
                return make(many)
            except _OF_ALL:
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, each one's own turn tells whose it was
                logger.warning("%s: %d together failed (%s); now one after the other", self._work, len(many), error)
        done = 0
        for whose, what in many.items():
            with self.of(whose):
                done += make({whose: what})
        return done

    def end(self) -> None:
        """Raise TurnFailed where a turn failed, now that all have had theirs: so the task is known to have failed."""
        if self._error is not None:
            words = (
                f"{self._work}: {len(self.failed)} failed, the last with {type(self._error).__name__}: {self._error}"
            )
            raise TurnFailed(words) from self._error
