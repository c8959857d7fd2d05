"""The thread that makes expositions: one for all scrapes, and one body for those that come together."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, current_thread, main_thread

import pytest

from telemetry.exposition import renderer
from telemetry.exposition.own_names import Names
from telemetry.exposition.renderer import Renderer
from telemetry.exposition.scrape import Fleet, UnknownHost, Wanted
from tests.process.traces import wait_until

# The process's one thread may hold a connection from a test before, which it looks after when its work is done.
pytestmark = pytest.mark.django_db

WANTED = Wanted((Names.STEPWATT,))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Wanted]]:
    """Return (thread, what was asked) of each body that was made."""
    bodies: list[tuple[str, Wanted]] = []

    def make(_: Fleet, wanted: Wanted, now: object) -> bytes:
        bodies.append((current_thread().name, wanted))
        if wanted.host == "nobody":
            raise UnknownHost(wanted.host)
        return str(len(bodies)).encode()

    monkeypatch.setattr(Fleet, "document", make)
    return bodies


@pytest.fixture
def held(made: list[tuple[str, Wanted]]) -> tuple[Renderer, list[tuple[object, "Future[bytes]"]], list[str]]:
    """Return a renderer whose thread has not come to any work yet, the work, and the threads that have asked for its result."""
    work: list[tuple[object, Future[bytes]]] = []
    asked: list[str] = []

    class Awaited(Future):
        def result(self, timeout: float | None = None) -> bytes:
            asked.append(current_thread().name)
            return super().result(timeout)

    def submit(make: object) -> "Future[bytes]":
        work.append((make, Awaited()))
        return work[-1][1]

    return Renderer(submit), work, asked


def test_a_body_is_made_in_a_thread_of_its_own(made: list[tuple[str, Wanted]]) -> None:
    renderer.of_this_process().body(WANTED)
    renderer.of_this_process().body(WANTED)
    ((first, _), (second, _)) = made
    assert first == second != main_thread().name


def test_scrapes_that_come_together_share_one_body(held) -> None:
    shared, work, asked = held
    together = Barrier(3)

    def scrape() -> bytes:
        together.wait(timeout=60)
        return shared.body(WANTED)

    with ThreadPoolExecutor(2) as scrapers:
        answers = [scrapers.submit(scrape) for _ in range(2)]
        together.wait(timeout=60)
        wait_until(lambda: len(asked) == 2, 60, "both scrapes to wait for the body")
        ((make, future),) = work
        future.set_result(make())
        assert [answer.result(timeout=60) for answer in answers] == [b"1", b"1"]


def test_a_scrape_that_comes_later_has_a_body_of_its_own(made: list[tuple[str, Wanted]]) -> None:
    own = renderer.of_this_process()
    assert own.body(WANTED) != own.body(WANTED)


def test_different_questions_share_nothing(made: list[tuple[str, Wanted]]) -> None:
    own = renderer.of_this_process()
    own.body(WANTED)
    own.body(Wanted((Names.DCGM,)))
    assert [wanted.names for _, wanted in made] == [(Names.STEPWATT,), (Names.DCGM,)]


def test_a_failure_reaches_the_scraper_and_ends_with_it(made: list[tuple[str, Wanted]]) -> None:
    own = renderer.of_this_process()
    with pytest.raises(UnknownHost):
        own.body(Wanted((Names.DCGM,), host="nobody"))
    assert own.body(WANTED) == b"2"
