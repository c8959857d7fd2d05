"""A spool whose file is damaged, or whose disk is full: batches wait elsewhere, and nothing is named twice."""

import logging
import sqlite3

import pytest

from telemetry.agent import spool as spools
from telemetry.agent.spool import ASIDE, FILE, HEAL_SECONDS
from telemetry.decoding import received
from telemetry.message import wire
from tests.telemetry.batches import batch
from tests.telemetry.spooling import HOST, MACHINE, Clock, broken, named, opened_in, parcel, waiting


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    with opened_in(tmp_path, clock) as make:
        yield make


@pytest.mark.parametrize("content", [b"no database at all" * 500, b""])
def test_a_file_that_is_no_spool_is_put_aside(opened, tmp_path, content):
    (tmp_path / FILE).write_bytes(content)

    spool = opened()
    spool.add([parcel(spool.names(HOST, MACHINE))])

    assert spool.n_batches == 1
    assert not spool.is_failed
    assert (tmp_path / ASIDE).exists() == bool(content)


def test_a_file_that_breaks_while_it_is_used_is_put_aside_and_the_agent_goes_on(opened, tmp_path, monkeypatch):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    lost = names.epoch
    broken(monkeypatch, sqlite3.SQLITE_CORRUPT, times=1)

    spool.add([parcel(names, 2000)])

    assert [named(each) for each in waiting(spool)] == [(names.epoch, 0, 2000)]
    assert names.epoch != lost
    assert (tmp_path / ASIDE).exists()
    assert (spool.n_dropped, spool.is_failed) == (1, False)


def test_a_full_disk_leaves_batches_in_memory_until_there_is_room(opened, clock, monkeypatch, caplog):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, 1000)])
    mended = broken(monkeypatch, sqlite3.SQLITE_FULL)
    with caplog.at_level(logging.ERROR):
        for at_ms in (2000, 3000):
            spool.add([parcel(names, at_ms)])
            clock.now += HEAL_SECONDS
            spool.tend()
    assert spool.is_failed
    assert [named(each)[2] for each in waiting(spool)] == [2000, 3000]
    assert len(caplog.records) == 1

    mended()
    clock.now += HEAL_SECONDS
    spool.tend()

    assert not spool.is_failed
    assert [named(each)[2] for each in waiting(spool)] == [1000, 2000, 3000]


def test_names_that_a_full_disk_could_not_note_are_not_given_again(opened, monkeypatch):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    mended = broken(monkeypatch, sqlite3.SQLITE_FULL)
    spool.add([parcel(names)])
    (sent,) = waiting(spool)
    mended()
    spool.close()

    again = opened().names(HOST, MACHINE)

    assert again.claim() != (sent.epoch, sent.sequence)


def test_the_memory_is_bounded_too(opened, monkeypatch):
    monkeypatch.setattr(spools, "MEMORY_BYTES", 60_000)
    spool = opened()
    names = spool.names(HOST, MACHINE)
    broken(monkeypatch, sqlite3.SQLITE_FULL)

    software = {f"x{number}": "y" * 190 for number in range(8)}
    for at_ms in range(1000, 301_000, 1000):
        spool.add([parcel(names, body=wire.pack(batch([at_ms], {}, software=software, epoch=names.epoch)))])

    kept = [received.unpack(each.body).times_ms[0] for each in waiting(spool)]
    assert kept == list(range(301_000 - 1000 * len(kept), 301_000, 1000))
    assert spool.n_dropped == 300 - len(kept) > 0
    assert spool.n_bytes <= 60_000


def test_a_file_that_cannot_be_measured_gives_way_to_memory_which_is_measured(opened, monkeypatch, caplog):
    spool = opened()
    spool.add([parcel(spool.names(HOST, MACHINE))])
    broken(monkeypatch, sqlite3.SQLITE_IOERR, call="_measure")

    spool.remove("of nobody", [(0, 0)])

    assert spool.is_failed
    assert spool.n_bytes > 0
    assert "memory fails" not in caplog.text
