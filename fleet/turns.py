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
    """Somebody's turn failed; the log has each with its traceback. `done` is what was done in the others' turns."""

    def __init__(self, words: str, done: int = 0) -> None:
        super().__init__(words)
        self.done = done


class Turns(Generic[Whose]):
    """The turns of one pass; `work` says for the log what is done with whom. `failed` has those whose turn failed.

    `done` is for the pass to count in; what a pass within this one did before it failed is added to it.
    """

    def __init__(self, work: str) -> None:
        self.failed: list[Whose] = []
        self.done = 0
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
            if isinstance(error, TurnFailed):  # of a pass within this one, and logged there
                self.done += error.done
            else:
                logger.exception("%s %s failed; the others go on", self._work, whose)
            self.failed.append(whose)
            self._error = error

    def of_many(self, many: Mapping[Whose, What], make: Callable[[Mapping[Whose, What]], int]) -> None:
        """Have many a turn together; where that fails, one after the other. What was made counts as done."""
        if len(many) > 1:
            try:
                self.done += make(many)
            except _OF_ALL:
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, each one's own turn tells whose it was
                logger.warning("%s: %d together failed (%s); now one after the other", self._work, len(many), error)
            else:
                return
        for whose, what in many.items():
            with self.of(whose):
                self.done += make({whose: what})

    @property
    def failure(self) -> str:
        """Return how many turns failed, and what of; "" where none did."""
        if self._error is None:
            return ""
        return f"{self._work}: {len(self.failed)} failed, the last with {type(self._error).__name__}: {self._error}"

    def end(self) -> int:
        """Return what was done. Raises TurnFailed where a turn failed, now that all have had theirs: so the task has failed."""
        if self._error is not None:
            raise TurnFailed(self.failure, self.done) from self._error
        return self.done
