"""The tests' own servers: one that ended says why."""

import pytest

from tests.process.traces import wait_until
from tests.servers import PostgreSQL


def test_a_postgresql_that_ended_tells_its_last_lines():
    server = PostgreSQL()
    server.start()

    server.postmaster.terminate()
    wait_until(lambda: server.has_ended, 180, "its end")

    with pytest.raises(AssertionError, match=r"ended with status(.|\n)*database system is shut down"):
        server.stop()
